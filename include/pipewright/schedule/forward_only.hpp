// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/schedule/policy.hpp>

namespace pipewright::inline v0 {

/// Evaluation: forwards only, over any number of chunks. Groups of micro-batches go through one chunk before the next, as
/// interleaved's do, so that a group of P or more keeps every rank busy. Any P, M, V; loop placement. Bubble (P-1)t_f/V
/// where M >= P. Nothing stays in flight.
struct forward_only : schedule_defaults {
  static constexpr std::string_view name = "forward-only";
  static constexpr backward_form backward = backward_form::none;

  static constexpr shape_fault check(shape) { return {}; }

  static constexpr void order(shape s, int rank, auto&& emit) {
    over(s, s.chunks, [&](int chunk) { return chunk * s.ranks + rank; }, emit);
  }

  /// The same for a rank that holds stages stage_of(0) < stage_of(1) < .. < stage_of(held - 1), wherever others stand.
  static constexpr void over(shape s, int held, auto&& stage_of, auto&& emit) {
    for (int first = 0, size = 0; first < s.micro_batches; first += size) {
      size =
          s.micro_batches - first < 2 * s.ranks ? s.micro_batches - first : s.ranks;  // the last group takes the rest
      for (int chunk = 0; chunk < held; ++chunk)
        for (int m = first; m < first + size; ++m) emit(forward(stage_of(chunk), m));
    }
  }
};
static_assert(schedule_policy<forward_only>);

}  // namespace pipewright::inline v0
