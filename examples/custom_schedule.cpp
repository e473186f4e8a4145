// SPDX-License-Identifier: Apache-2.0
// How do I invent a schedule?
//
// Write one function: the order in which a rank computes. Sends, receives, updates, buffers and the proof are derived.
// This one is 1F1B with a longer warm-up: 2(P-r)-1 forwards instead of P-r. It holds about twice as many micro-batches in
// flight and in return hides the time that activations and gradients spend on the link. (Known as eager 1F1B.)
#include <algorithm>
#include <iostream>

#include <pipewright/plan/constant_plan.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/trace/grid.hpp>

namespace pw = pipewright;

struct eager : pw::schedule_defaults {  // synchronous, one chunk a rank, any P and M
  static constexpr std::string_view name = "eager";

  static constexpr void order(pw::shape s, int rank, auto&& emit) {
    int const warm_up = std::min(s.micro_batches, 2 * (s.ranks - rank) - 1);
    for (int m = 0; m < warm_up; ++m) emit(pw::forward(rank, m));
    for (int m = 0; m < s.micro_batches; ++m) {
      emit(pw::backward(rank, m));
      if (m + warm_up < s.micro_batches) emit(pw::forward(rank, m + warm_up));
    }
  }
};

// Proven by the compiler: complete, free of deadlock even where every transfer blocks, within its slots, right in its
// weights. Start the order with a backward, and this line does not compile: it names the rule, rank, position and action.
constexpr auto& plan = pw::plan<eager, pw::shape{.ranks = 4, .micro_batches = 8}>;
constexpr auto& usual = pw::plan<pw::flush, pw::shape{.ranks = 4, .micro_batches = 8}>;

// Exact times, as fractions: forward 1, backward 2, and a link as slow as half a forward.
constexpr pw::rational step_time(pw::plan_view const& p, pw::rational link) {
  return pw::simulate(
             p, pw::costs<pw::rational>{.forward = 1, .backward_input = 1, .backward_weight = 1, .transfer = link})
      .makespan;
}
constexpr pw::rational none = 0, half{1, 2};
static_assert(step_time(plan, none) == step_time(usual, none));  // without a link there is nothing to hide
static_assert(step_time(plan, half) < step_time(usual, half));

int main() {
  std::cout << "flush\n" << pw::grid(usual) << "\neager\n" << pw::grid(plan) << '\n';
  bool pays = true;
  for (pw::rational link : {none, half, pw::rational{1}}) {
    double const before = static_cast<double>(step_time(usual, link)),
                 after = static_cast<double>(step_time(plan, link));
    std::cout << "link latency " << static_cast<double>(link) << " forwards: a step takes " << before
              << " under flush, " << after << " under eager\n";
    pays = pays && after <= before;
  }
  // A shape known at start-up only goes through the same code.
  auto const large = pw::make_plan<eager>({.ranks = 16, .micro_batches = 256});
  std::cout << "16 ranks, 256 micro-batches: rank 0 holds " << large.view().slots[0].saved
            << " in flight, proven at run time\n";
  return pays && large.view().slots[0].saved == 31 ? 0 : 1;
}
