// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/schedule/action.hpp>

namespace pipewright::inline v0 {

/// The rules of a plan. The first six are those of the design; `placement` is what a table can break before them.
enum class rule : std::uint8_t {
  none,
  complete,   ///< every stage and micro-batch has F once, and B once or I and W once, in order
  feasible,   ///< what an action reads has been made; cross-stage dependencies are acyclic
  channels,   ///< on every channel the order of sends equals the order of receives
  deadlock,   ///< the programs complete when every transfer is a rendezvous
  memory,     ///< no slot is written while somebody still reads it; in flight within the limit
  weights,    ///< forward and backward read the version the rule says, while it exists
  placement,  ///< every stage stands on one rank
};

constexpr char const* sentence(rule r) {
  switch (r) {
    case rule::none: return "the plan is right";
    case rule::complete: return "every stage and micro-batch needs F once, then B once (or I once, then W once)";
    case rule::feasible: return "an action reads what nobody has made at that point";
    case rule::channels: return "a channel keeps its order: sends and receives meet first-in, first-out, without tags";
    case rule::deadlock: return "the programs wait for one another for ever when every transfer is a rendezvous";
    case rule::memory: return "a buffer slot is written while it still holds what somebody needs";
    case rule::weights:
      return "forward and backward of a micro-batch read the weight version of the schedule's rule, while it is kept";
    case rule::placement: return "every stage stands on exactly one rank";
  }
  return "";
}

/// The first fault found, and where. `position` counts the rank's actions from 0; at the end of the program for
/// something missing.
struct verdict {
  rule broken;
  int rank;
  int position;
  action at;

  constexpr bool ok() const { return broken == rule::none; }
};

inline constexpr verdict sound{rule::none, -1, -1, {kind::forward, false, 0, 0}};

}  // namespace pipewright::inline v0
