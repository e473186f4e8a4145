// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/schedule/policy.hpp>

namespace pipewright::inline v0 {

/// Evaluation: forwards only, over any number of chunks (loop placement; groups of P micro-batches go through one chunk
/// before the next, as interleaved's do). Any P, M, V. Bubble (P-1)t_f/V where P divides M. Nothing stays in flight.
struct forward_only : schedule_defaults {
  static constexpr std::string_view name = "forward-only";
  static constexpr backward_form backward = backward_form::none;

  static constexpr shape_fault check(shape) { return {}; }

  static constexpr void order(shape s, int rank, auto&& emit) {
    for (int first = 0; first < s.micro_batches; first += s.ranks)
      for (int c = 0; c < s.chunks; ++c)
        for (int m = first; m < first + s.ranks && m < s.micro_batches; ++m) emit(forward(c * s.ranks + rank, m));
  }
};
static_assert(schedule_policy<forward_only>);

}  // namespace pipewright::inline v0
