// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include <pipewright/schedule/policy.hpp>

namespace pipewright::inline v0 {

/// The order that flush, one_f_one_b and two_buffered share: min(N, P-r) forwards, then a backward and a forward in
/// turn, then the remaining backwards. For fewer micro-batches it is the same order with the missing ones left out,
/// which is why a stream can be cut short anywhere.
constexpr void order_one_forward_one_backward(int ranks, int micro_batches, int rank, auto&& emit) {
  int const warm_up = std::min(micro_batches, ranks - rank);
  for (int m = 0; m < warm_up; ++m) emit(forward(rank, m));
  for (int m = 0; m < micro_batches; ++m) {
    emit(backward(rank, m));
    if (m + warm_up < micro_batches) emit(forward(rank, m + warm_up));
  }
}

/// PipeDream-Flush, synchronous 1F1B (arXiv 2006.09503). Any P, M. Bubble (P-1)(t_f+t_b). In flight min(M, P-r) on
/// rank r. One weight version.
struct flush : schedule_defaults {
  static constexpr std::string_view name = "flush";

  static constexpr void order(shape s, int rank, auto&& emit) {
    order_one_forward_one_backward(s.ranks, s.micro_batches, rank, emit);
  }
};
static_assert(schedule_policy<flush>);

}  // namespace pipewright::inline v0
