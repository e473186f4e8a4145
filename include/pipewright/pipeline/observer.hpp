// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>

#include <pipewright/schedule/action.hpp>

namespace pipewright::inline v0 {

/// One instruction of one rank, as observers see it; micro-batch and version count from the start of the plan.
struct event {
  int rank;
  pipewright::instruction instruction;
};

/// Hears of every instruction that a rank runs: profilers, traces, progress, tests' counters are all observers.
/// Needs: `before(event)` when the rank turns to it (waiting for it included), `after(event)` when it is done, in the
/// rank's thread. Not required: thread safety, unless ranks share one. Minimal model: no_observer, which costs nothing.
template<class O>
concept observer = requires(O o, event e) {
  o.before(e);
  o.after(e);
};

/// Hears nothing.
struct no_observer {
  static constexpr void before(event) {}
  static constexpr void after(event) {}
};
static_assert(observer<no_observer>);

}  // namespace pipewright::inline v0
