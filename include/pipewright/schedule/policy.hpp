// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <string_view>

#include <pipewright/schedule/action.hpp>
#include <pipewright/schedule/shape.hpp>

namespace pipewright::inline v0 {

/// How a schedule chooses the weight version of a micro-batch, and when it updates.
enum class weight_rule : std::uint8_t {
  synchronous,      ///< one version; one update after a batch's last backward
  stashing,         ///< an update after every backward; a stage's F and B of a micro-batch read one version (PipeDream)
  vertical_sync,    ///< the same, and that version is one on all stages (PipeDream, vertical sync)
  double_buffered,  ///< an update a batch, computed from the version before the newest (PipeDream-2BW)
};

/// What a schedule asks of a stage's backward.
enum class backward_form : std::uint8_t {
  none,   ///< never runs it
  full,   ///< B
  split,  ///< I and W apart
};

/// Which rule a shape breaks.
enum class shape_rule : std::uint8_t {
  none,
  at_least_one,
  too_large,
  one_chunk,
  chunks_of_the_type,
  two_chunks_or_more,
  group_fits,
  micro_batches_fill_the_pipeline,
  batches_only_in_a_stream,
};

/// The rule in words, for people; the same text at compile time and at start-up.
constexpr char const* sentence(shape_rule r) {
  switch (r) {
    case shape_rule::none: return "the shape is legal";
    case shape_rule::at_least_one:
      return "ranks, micro-batches and batches are at least 1, chunks and group not negative";
    case shape_rule::too_large: return "a plan holds at most 65535 stages and 67108864 micro-batches";
    case shape_rule::one_chunk: return "this schedule holds one chunk a rank; for more choose interleaved";
    case shape_rule::chunks_of_the_type:
      return "interleaved<V> holds V chunks a rank: leave shape.chunks out or set it to V";
    case shape_rule::two_chunks_or_more:
      return "interleaved needs 2 or more chunks a rank; with one chunk choose flush";
    case shape_rule::group_fits:
      return "interleaved needs a micro-batch group G >= P with M mod G = 0 or M mod G >= P, and G = M where M < P";
    case shape_rule::micro_batches_fill_the_pipeline:
      return "2bw needs at least P - 1 micro-batches a batch, or a forward would need weights that do not exist yet";
    case shape_rule::batches_only_in_a_stream:
      return "a synchronous plan holds one batch; only asynchronous schedules have several";
  }
  return "";
}

/// The verdict on a shape: the first rule it breaks and the nearest legal shape.
struct shape_fault {
  shape_rule broken = shape_rule::none;
  shape nearest{};
  constexpr bool ok() const { return broken == shape_rule::none; }
};

/// Marks a type as a schedule on purpose: a look-alike does not conform by accident.
struct schedule_policy_tag {};

/// What most schedules share; a policy inherits it and overrides what is its own.
struct schedule_defaults {
  using policy_tag = schedule_policy_tag;
  static constexpr weight_rule weights = weight_rule::synchronous;
  static constexpr backward_form backward = backward_form::full;

  /// Loop placement: stage s stands on rank s mod P.
  static constexpr int rank_of(shape s, int stage) { return stage % s.ranks; }

  /// Fills in what the caller left to the schedule.
  static constexpr shape complete(shape s) {
    if (s.chunks == 0) s.chunks = 1;
    return s;
  }

  /// Any P and M, one chunk. `s` is complete.
  static constexpr shape_fault check(shape s) {
    if (s.chunks == 1) return {};
    shape nearest = s;
    nearest.chunks = 1;
    return {shape_rule::one_chunk, nearest};
  }
};

/// A pipeline-parallel training schedule.
/// Needs: (1) `policy_tag` (inherit schedule_defaults); (2) `name`, as the command line spells it; (3) `weights` and
/// `backward`, what it does to weights and asks of stages; (4) `rank_of(shape, stage)`; (5) `complete(shape)` and
/// `check(shape)`; (6) `order(shape, rank, emit)`, which calls emit(action) for the rank's compute actions in order.
/// Promises: order() is a pure function of its arguments, its cost linear in what it emits.
/// Not required: sends, receives, updates, versions, buffers: all of them are derived.
/// Minimal model: gpipe.
template<class P>
concept schedule_policy =
    std::same_as<typename P::policy_tag, schedule_policy_tag> && requires(shape s, int i, void (*emit)(action)) {
      { P::name } -> std::convertible_to<std::string_view>;
      { P::weights } -> std::convertible_to<weight_rule>;
      { P::backward } -> std::convertible_to<backward_form>;
      { P::rank_of(s, i) } -> std::same_as<int>;
      { P::complete(s) } -> std::same_as<shape>;
      { P::check(s) } -> std::same_as<shape_fault>;
      P::order(s, i, emit);
    };

/// Whether a rule updates without a flush, so that its plan is a stream.
constexpr bool is_stream(weight_rule r) { return r != weight_rule::synchronous; }

/// The shape with everything filled in that was left to the policy.
template<schedule_policy P> constexpr shape complete(shape s) { return P::complete(s); }

namespace detail {

/// The first rule that a shape breaks, general rules first, with that rule mended.
template<schedule_policy P> constexpr shape_fault first_shape_fault(shape s) {
  auto at_least = [](int value, int least) { return value < least ? least : value; };
  shape nearest = s;
  nearest.ranks = at_least(s.ranks, 1);
  nearest.micro_batches = at_least(s.micro_batches, 1);
  nearest.chunks = at_least(s.chunks, 1);
  nearest.batches = at_least(s.batches, 1);
  nearest.group = at_least(s.group, 0);
  if (nearest != s) return {shape_rule::at_least_one, nearest};
  long long const stages = static_cast<long long>(s.ranks) * s.chunks;
  long long const micro_batches = static_cast<long long>(s.micro_batches) * s.batches;
  if (stages > max_stages || micro_batches > max_micro_batches) {
    if (s.chunks > max_stages) nearest.chunks = max_stages;
    if (stages > max_stages) nearest.ranks = max_stages / nearest.chunks;
    if (s.micro_batches > max_micro_batches) nearest.micro_batches = max_micro_batches;
    if (micro_batches > max_micro_batches) nearest.batches = max_micro_batches / nearest.micro_batches;
    return {shape_rule::too_large, nearest};
  }
  if (s.batches != 1 && !is_stream(P::weights)) {
    nearest.batches = 1;
    return {shape_rule::batches_only_in_a_stream, nearest};
  }
  return P::check(s);
}

}  // namespace detail

/// Judges a shape under a policy: the first rule that it breaks and the nearest shape that breaks none. `s` is complete.
template<schedule_policy P> constexpr shape_fault check_shape(shape s) {
  shape_fault result = detail::first_shape_fault<P>(s);
  if (!result.ok())
    for (shape_fault next = result; !next.ok(); next = detail::first_shape_fault<P>(result.nearest))
      result.nearest = next.nearest;
  return result;
}

}  // namespace pipewright::inline v0
