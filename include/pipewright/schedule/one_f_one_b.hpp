// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/schedule/flush.hpp>

namespace pipewright::inline v0 {

/// PipeDream (SOSP 2019): 1F1B over an endless stream of micro-batches, an update after every backward, no flush, the
/// weights of a micro-batch's forward stashed for its backward. Any P and stream length. Bubble 0 in the steady state,
/// (P-1)(t_f+t_b) a drain. In flight P-r, weight versions P-r on rank r. `shape.micro_batches` is what one step admits.
struct one_f_one_b : schedule_defaults {
  static constexpr std::string_view name = "1f1b";
  static constexpr weight_rule weights = weight_rule::stashing;

  static constexpr void order(shape s, int rank, auto&& emit) {
    order_one_forward_one_backward(s.ranks, s.total_micro_batches(), rank, emit);
  }
};
static_assert(schedule_policy<one_f_one_b>);

/// PipeDream with vertical sync: a micro-batch reads the version that rank 0 had when it entered, on every stage.
/// As one_f_one_b, but P weight versions on every rank.
struct one_f_one_b_vertical_sync : one_f_one_b {
  static constexpr std::string_view name = "1f1b-vsync";
  static constexpr weight_rule weights = weight_rule::vertical_sync;
};
static_assert(schedule_policy<one_f_one_b_vertical_sync>);

}  // namespace pipewright::inline v0
