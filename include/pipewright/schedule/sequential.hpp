// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/schedule/policy.hpp>

namespace pipewright::inline v0 {

/// Naive inter-layer parallelism, the baseline: one micro-batch goes down all stages and back up before the next
/// starts. Any P, M. Bubble (P-1)M(t_f+t_b). In flight 1. One weight version.
struct sequential : schedule_defaults {
  static constexpr std::string_view name = "sequential";

  static constexpr void order(shape s, int rank, auto&& emit) {
    for (int m = 0; m < s.micro_batches; ++m) {
      emit(forward(rank, m));
      emit(pipewright::backward(rank, m));
    }
  }
};
static_assert(schedule_policy<sequential>);

}  // namespace pipewright::inline v0
