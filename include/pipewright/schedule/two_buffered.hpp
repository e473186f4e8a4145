// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/schedule/flush.hpp>

namespace pipewright::inline v0 {

/// PipeDream-2BW (arXiv 2006.09503): 1F1B without a flush, one update per M micro-batches, gradients one version late
/// on every stage: W(t+1) = W(t) - lr * grad(W(t-1)). Legal for M >= P-1. Bubble 0 in the steady state. In flight
/// P-r on rank r, two weight versions.
struct two_buffered : schedule_defaults {
  static constexpr std::string_view name = "2bw";
  static constexpr weight_rule weights = weight_rule::double_buffered;

  static constexpr shape_fault check(shape s) {
    if (auto fault = schedule_defaults::check(s); !fault.ok()) return fault;
    if (s.micro_batches >= s.ranks - 1) return {};
    shape nearest = s;
    nearest.micro_batches = s.ranks - 1;
    return {shape_rule::micro_batches_fill_the_pipeline, nearest};
  }

  static constexpr void order(shape s, int rank, auto&& emit) {
    order_one_forward_one_backward(s.ranks, s.total_micro_batches(), rank, emit);
  }
};
static_assert(schedule_policy<two_buffered>);

}  // namespace pipewright::inline v0
