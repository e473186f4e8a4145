// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/schedule/policy.hpp>

namespace pipewright::inline v0 {

/// GPipe (arXiv 1811.06965), fill and drain: all forwards, then all backwards, both ascending as PyTorch runs them.
/// Any P, M. Bubble (P-1)(t_f+t_b). In flight M on every rank. One weight version.
struct gpipe : schedule_defaults {
  static constexpr std::string_view name = "gpipe";

  static constexpr void order(shape s, int rank, auto&& emit) {
    for (int m = 0; m < s.micro_batches; ++m) emit(forward(rank, m));
    for (int m = 0; m < s.micro_batches; ++m) emit(pipewright::backward(rank, m));
  }
};
static_assert(schedule_policy<gpipe>);

}  // namespace pipewright::inline v0
