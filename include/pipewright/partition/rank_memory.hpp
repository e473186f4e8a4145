// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include <pipewright/partition/model_profile.hpp>
#include <pipewright/plan/memory.hpp>
#include <pipewright/plan/plan_view.hpp>

namespace pipewright::inline v0 {

/// The most bytes that a rank holds while it trains, by what they are for. What runtime and libraries take is not in it.
struct rank_memory {
  double weights = 0;      ///< all versions
  double gradients = 0;    ///< all accumulators
  double optimizer = 0;    ///< states
  double activations = 0;  ///< what stages keep of the micro-batches in flight
  double boundaries = 0;   ///< inputs, outputs and their gradients, on the way and in use
  double workspace = 0;    ///< of one action at a time

  double total() const { return weights + gradients + optimizer + activations + boundaries + workspace; }
  /// With another stage of the rank.
  rank_memory& operator+=(rank_memory const& b) {
    weights += b.weights;
    gradients += b.gradients;
    optimizer += b.optimizer;
    activations += b.activations;
    boundaries += b.boundaries;
    workspace = std::max(workspace, b.workspace);
    return *this;
  }
};

namespace detail {

/// Follows what a rank's stages have saved and not freed, by its program: calls see(instruction, now) before and after each
/// action, where `now` is how many micro-batches' saved values each stage holds. Once a program repeats it is followed twice.
void follow_saved(plan_view const& p, int rank, auto&& see) {
  struct counts {
    bool recomputes;
    std::vector<int> now;
    bool is_saved(ring which) const {
      return recomputes ? which == ring::recomputed || which == ring::last_saved : which == ring::saved;
    }
    void begin(ring which, int stage, int) { now[static_cast<std::size_t>(stage)] += is_saved(which); }
    void end(ring which, int stage, int) { now[static_cast<std::size_t>(stage)] -= is_saved(which); }
  };
  bool const trains = p.backward != backward_form::none;
  counts held{trains && p.wants.recompute != recompute_mode::never,
              std::vector<int>(static_cast<std::size_t>(p.stages()))};
  lifetimes const lives(p);
  long long const length = p.is_stream() ? p.period[rank].prologue + 2LL * p.period[rank].length
                                         : static_cast<long long>(p.programs.length(rank));
  for (long long i = 0; i < length; ++i) {
    instruction const next = p.at(rank, i);
    auto const& [what, overlapped, stage, micro_batch] = next.what;
    if (!is_compute(what) && what != kind::update) continue;
    see(next, held.now);
    lives.visit(rank, what, stage, micro_batch, held);
    see(next, held.now);
  }
}

/// How many slots a stage has for saved values.
inline int saved_slots(plan_view const& p, int stage) {
  slot_depths const& depth = p.slots[stage];
  if (p.backward == backward_form::none || p.wants.recompute == recompute_mode::never) return std::max(depth.saved, 1);
  return (p.wants.recompute == recompute_mode::except_last ? std::max(depth.last_saved, 1) : 0) + depth.recomputed +
         (p.backward == backward_form::split ? 1 : 0);
}

/// The micro-batches whose saved values each stage holds at most: all that has a slot, unless they are freed when they go.
inline std::vector<int> saved_values(plan_view const& p, bool are_freed) {
  std::vector<int> most(static_cast<std::size_t>(p.stages()));
  for (int s = 0; !are_freed && s < p.stages(); ++s) most[static_cast<std::size_t>(s)] = saved_slots(p, s);
  for (int r = 0; are_freed && r < p.facts.ranks; ++r)
    follow_saved(p, r, [&](instruction const& next, std::vector<int> const& now) {
      most[next.what.stage] = std::max(most[next.what.stage], now[next.what.stage]);
    });
  return most;
}

/// What a stage holds, from the sums of its layers, the bytes of its input and the number of its saved values: as the engine's
/// cell makes its rings.
inline rank_memory memory_of_stage(plan_view const& p, model_profile const& of, int s, stage_profile const& stage,
                                   double input, int saved) {
  slot_depths const& depth = p.slots[s];
  int const rank = p.rank_of_stage[s], last = p.stages() - 1;
  bool const trains = p.backward != backward_form::none;
  auto const at_least_one = [](int slots) { return std::max(slots, 1); };
  rank_memory m{.activations = saved * stage.saved + saved_slots(p, s) * stage.between, .workspace = stage.workspace};
  m.weights = p.weight_buffers[rank] * stage.parameters;
  m.optimizer = trains ? stage.optimizer : 0;
  m.gradients = trains ? depth.gradients * stage.gradients : 0;
  m.boundaries = at_least_one(depth.input) * (input + (s == last ? of.target : 0));
  if (s < last && p.rank_of_stage[s + 1] != rank) m.boundaries += at_least_one(depth.output) * stage.output;
  if (trains && s < last)
    m.boundaries += (at_least_one(depth.output_gradient) + (depth.recomputed > 0 ? 1 : 0)) * stage.output;  // R's own
  if (trains && s > 0 && p.rank_of_stage[s - 1] != rank) m.boundaries += at_least_one(depth.input_gradient) * input;
  return m;
}

}  // namespace detail

/// The bytes of every rank, for a plan and a cut into its stages, from the plan's slots; what is freed is counted while it is held.
/// Exact where a profile's bytes are, but for the gradients that pass between the layers of a stage: estimated where backward is
/// whole, not counted where it comes in halves.
inline std::vector<rank_memory> memory_of_ranks(plan_view const& p, model_profile const& of,
                                                std::vector<int> const& sizes) {
  auto const stages = stages_of(of, sizes);
  std::vector<rank_memory> ranks(static_cast<std::size_t>(p.facts.ranks));
  for (int s = 0; s < p.stages(); ++s) {
    auto const at = static_cast<std::size_t>(s);
    ranks[static_cast<std::size_t>(p.rank_of_stage[s])] +=
        detail::memory_of_stage(p, of, s, stages[at], s == 0 ? of.input : stages[at - 1].output,
                                of.frees_saved ? 0 : detail::saved_slots(p, s));
  }
  if (of.frees_saved)  // counted while it is held: a rank's stages do not hold the most of theirs at one time
    for (int r = 0; r < p.facts.ranks; ++r) {
      auto& m = ranks[static_cast<std::size_t>(r)];
      std::vector<std::size_t> mine;
      for (std::size_t s = 0; s < stages.size(); ++s)
        if (p.rank_of_stage[s] == r) mine.push_back(s);
      double const in_slots = m.activations;
      m.workspace = 0;
      detail::follow_saved(p, r, [&](instruction const& next, std::vector<int> const& now) {
        double held = in_slots;
        for (std::size_t const s : mine) held += now[s] * stages[s].saved;
        double const beside = stages[next.what.stage].workspace;
        if (held + beside > m.activations + m.workspace) m.activations = held, m.workspace = beside;
      });
    }
  return ranks;
}

}  // namespace pipewright::inline v0
