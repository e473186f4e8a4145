// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>

#include <pipewright/schedule/recompute_mode.hpp>
#include <pipewright/stage/explain.hpp>

namespace pipewright::inline v0 {

/// Says in a sentence, at compile time, why a stage's forward may not run twice; true where it may.
template<class S> consteval bool explain_recompute() {
  if constexpr (!explain_stage<S>()) return false;
  else
    static_assert(recomputable_stage<S>,
                  "pipewright: recomputation runs forward twice for a micro-batch, and this stage "
                  "says recomputable = false (hidden state); leave it out of recompute, or make "
                  "forward a function of its arguments and remove that line");
  return recomputable_stage<S>;
}

namespace detail {
template<class Stage, recompute_mode Mode> struct recomputed : Stage {
  static_assert(explain_recompute<Stage>() || true);  // it says so itself
  static constexpr recompute_mode recompute = Mode;
};
template<class Stage> struct recomputed_at_start_up : Stage {
  static_assert(explain_recompute<Stage>() || true);
  recompute_mode recompute;
};
}  // namespace detail

/// A stage that keeps only its input between forward and backward: its forward runs a second time, as an action of its
/// own that the schedule places right before the backward. Otherwise the stage itself. (GPipe, arXiv 1811.06965; modes as
/// in torchgpipe, arXiv 2004.09910.)
template<class Stage, recompute_mode Mode = recompute_mode::always> using recompute = detail::recomputed<Stage, Mode>;

/// A stage that recompute<> or recompute_each() marked, with whatever mode.
template<class S>
concept marked_to_recompute = requires(S const stage) {
  { stage.recompute } -> std::convertible_to<recompute_mode>;
};

/// How a stage wants to be recomputed: as it is marked, else never.
template<class S> constexpr recompute_mode recompute_mode_of(S const& stage) {
  if constexpr (marked_to_recompute<S>) return stage.recompute;
  else return recompute_mode::never;
}

}  // namespace pipewright::inline v0
