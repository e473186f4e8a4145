// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include <pipewright/schedule/policy.hpp>
#include <pipewright/schedule/recompute_mode.hpp>
#include <pipewright/schedule/rows.hpp>

namespace pipewright::inline v0 {

/// What stages and optimizer add to the programs. Part of what a plan is made from; equal on every rank.
struct needs {
  recompute_mode recompute = recompute_mode::never;
  bool step_facts = false;  ///< ranks exchange facts before an update: a global norm, non-finite values, token counts
  int tied_first = -1;      ///< two stages that share a weight, or -1
  int tied_second = -1;

  constexpr bool tied() const { return tied_first >= 0; }
  friend constexpr bool operator==(needs const&, needs const&) = default;
};

/// How many slots a stage has of each buffer. Micro-batch m uses slot m mod depth; with this rule a depth is all there is
/// to a slot plan. The lifetime of each buffer, in the program's order:
struct slot_depths {
  int input;            ///< POST_F (or the F of the stage before, on the same rank) .. the end of backward
  int saved;            ///< F .. the end of backward (B or W)
  int recomputed;       ///< R .. the end of backward
  int last_saved;       ///< as saved, for a batch's last micro-batch under except_last; keyed by the batch, m div M
  int output;           ///< F .. SEND_F
  int output_gradient;  ///< POST_B (or the B of the stage after, on the same rank) .. the end of backward
  int input_gradient;   ///< B or I .. SEND_B
  int gradients;        ///< a batch's first backward .. its UPDATE; keyed by the update

  friend constexpr bool operator==(slot_depths const&, slot_depths const&) = default;
};

/// Where a stream's program repeats, on one rank: instructions [0, prologue) once, then [prologue, prologue + length)
/// again and again, each time for `micro_batches` later ones and versions `updates` higher.
struct period_marks {
  int prologue;
  int length;
};

/// All ranks' programs and what they were made from. Non-owning; what engine, simulator and pictures read.
struct plan_view {
  std::string_view schedule;
  shape facts{};  ///< complete
  weight_rule weights = weight_rule::synchronous;
  backward_form backward = backward_form::full;
  needs wants{};
  rows_view<instruction> programs{};
  int const* rank_of_stage = nullptr;   ///< by stage
  slot_depths const* slots = nullptr;   ///< by stage
  int const* weight_buffers = nullptr;  ///< by rank: physical copies of its weights; version v stands in copy v mod n

  period_marks const* period = nullptr;  ///< by rank, of a stream
  int period_micro_batches = 0;          ///< 0 for a plan that ends
  int period_updates = 0;

  constexpr bool is_stream() const { return period_micro_batches != 0; }
  constexpr int stages() const { return facts.stages(); }
  /// Micro-batches between two updates.
  constexpr int update_interval() const {
    return weights == weight_rule::stashing || weights == weight_rule::vertical_sync ? 1 : facts.micro_batches;
  }

  /// The index-th instruction of a rank; a stream has one for every index.
  constexpr instruction at(int rank, long long index) const {
    if (!is_stream() || index < period[rank].prologue + period[rank].length) return programs.begin_of(rank)[index];
    auto const [prologue, length] = period[rank];
    int const repetition = static_cast<int>((index - prologue) / length);
    instruction result = programs.begin_of(rank)[prologue + (index - prologue) % length];
    result.what.micro_batch += repetition * period_micro_batches;
    if (is_compute(result.what.what) || result.what.what == kind::update) result.version += repetition * period_updates;
    return result;
  }
};

/// The weight version that a micro-batch reads on a rank, as the rule has it (PipeDream, PipeDream-2BW papers).
constexpr int version_read(weight_rule rule, shape const& s, int rank, int micro_batch) {
  auto late_by = [](int value, int delay) { return value > delay ? value - delay : 0; };
  switch (rule) {
    case weight_rule::synchronous: return 0;
    case weight_rule::stashing: return late_by(micro_batch, s.ranks - 1 - rank);
    case weight_rule::vertical_sync: return late_by(micro_batch, s.ranks - 1);
    case weight_rule::double_buffered: return late_by(micro_batch / s.micro_batches, 1);
  }
  return 0;
}

/// How many weight versions a rule may keep on a rank.
constexpr int version_bound(weight_rule rule, shape const& s, int rank) {
  switch (rule) {
    case weight_rule::synchronous: return 1;
    case weight_rule::stashing: return s.ranks - rank;
    case weight_rule::vertical_sync: return s.ranks;
    case weight_rule::double_buffered: return 2;
  }
  return 1;
}

/// How many updates' exchanges (ties, facts) may be under way on a rank: their receives are posted that far ahead. In a
/// stream the exchange waits until a forward needs its update, so that no rank stands still for it.
constexpr int exchange_window(weight_rule rule, shape const& s) {
  return rule == weight_rule::vertical_sync ? s.ranks : rule == weight_rule::double_buffered ? 2 : 1;
}

/// Whether a micro-batch's forward is run a second time.
constexpr bool is_recomputed(recompute_mode mode, shape const& s, int micro_batch) {
  return mode == recompute_mode::always ||
         (mode == recompute_mode::except_last && micro_batch % s.micro_batches != s.micro_batches - 1);
}

}  // namespace pipewright::inline v0
