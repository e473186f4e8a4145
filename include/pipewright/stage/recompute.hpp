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
}  // namespace detail

/// A stage that keeps only its input between forward and backward: its forward runs a second time, as an action of its
/// own that the schedule places right before the backward. Otherwise the stage itself. (GPipe, arXiv 1811.06965; modes as
/// in torchgpipe, arXiv 2004.09910.)
template<class Stage, recompute_mode Mode = recompute_mode::always> using recompute = detail::recomputed<Stage, Mode>;

/// How a stage wants to be recomputed: what recompute<> marked it with, else never.
template<class S> constexpr recompute_mode recompute_mode_of() {
  if constexpr (requires {
                  { S::recompute } -> std::convertible_to<recompute_mode>;
                })
    return S::recompute;
  else return recompute_mode::never;
}

}  // namespace pipewright::inline v0
