// SPDX-License-Identifier: Apache-2.0
// The library's simulator on plans: exact numbers of the literature and examples worked out by hand.
#include <cmath>

#include <support/more_schedules.hpp>
#include <support/twice.hpp>

#include <pipewright/plan/constant_plan.hpp>
#include <pipewright/plan/table_plan.hpp>

namespace pw = pipewright;
using pw::rational;

namespace {

/// Makespan at unit times: t_f = t_i = t_w = 1 a rank and micro-batch.
template<class Policy, pw::shape S> constexpr rational makespan(rational latency = 0) {
  pw::costs<rational> times;
  times.transfer = latency;
  return pw::simulate(pw::plan<Policy, S>.view(), times).makespan;
}

/// The same at start-up.
template<class Policy> rational makespan(pw::shape s, rational latency) {
  pw::costs<rational> times;
  times.transfer = latency;
  return pw::simulate(pw::make_unrolled_plan<Policy>(s).view(), times).makespan;
}

}  // namespace

TEST_CASE("exact makespans of the reference table, in the compiler too") {
  PIPEWRIGHT_TWICE(makespan<pw::sequential, pw::shape{2, 4}>() == 24);
  PIPEWRIGHT_TWICE(makespan<pw::sequential, pw::shape{4, 8}>() == 96);
  PIPEWRIGHT_TWICE(makespan<pw::gpipe, pw::shape{4, 8}>() == 33);
  PIPEWRIGHT_TWICE(makespan<pw::flush, pw::shape{2, 4}>() == 15);
  PIPEWRIGHT_TWICE(makespan<pw::flush, pw::shape{4, 4}>() == 21);
  PIPEWRIGHT_TWICE(makespan<pw::flush, pw::shape{4, 8}>() == 33);
  PIPEWRIGHT_TWICE(makespan<pw::interleaved<2>, pw::shape{2, 4}>() == rational(27, 2));
  PIPEWRIGHT_TWICE(makespan<pw::interleaved<2>, pw::shape{4, 4}>() == rational(33, 2));
  PIPEWRIGHT_TWICE(makespan<pw::interleaved<2>, pw::shape{4, 8}>() == rational(57, 2));
  PIPEWRIGHT_TWICE(makespan<pw::interleaved<4>, pw::shape{4, 8}>() == rational(105, 4));
  PIPEWRIGHT_TWICE(makespan<support::zero_bubble_h1, pw::shape{4, 8}>() == 27);
}

TEST_CASE("the three ratios of one bubble") {
  pw::costs<rational> times;
  auto const line = pw::simulate(pw::plan<support::zero_bubble_h1, pw::shape{4, 4}>.view(), times);
  CHECK(line.makespan == rational(15));
  CHECK(line.ideal == rational(12));
  CHECK(line.bubble_of_ideal() == rational(1, 4));
  CHECK(line.bubble_of_makespan() == rational(1, 5));
  CHECK(line.bubble_of_longest_rank() == rational(1, 5));  // rank 0 spans it all
}

TEST_CASE("what an edge's latency costs") {
  rational const c(1, 100);
  CHECK(makespan<pw::flush>({8, 24}, c) - makespan<pw::flush>({8, 24}, 0) == rational(54) * c);
  CHECK(makespan<pw::gpipe>({8, 24}, c) - makespan<pw::gpipe>({8, 24}, 0) == rational(14) * c);
  CHECK(makespan<pw::interleaved<2>>({4, 8}, c) - makespan<pw::interleaved<2>>({4, 8}, 0) == rational(14) * c);
}

TEST_CASE("Zero Bubble's measurements to four decimals") {
  auto const rate = [](pw::plan_view plan, double f, double i, double w, double latency) {
    pw::costs<double> times;
    times.forward = f;
    times.backward_input = i;
    times.backward_weight = w;
    times.transfer = latency;
    return std::round(1e4 * pw::simulate(plan, times).bubble_of_longest_rank()) / 1e4;
  };
  // A table of actions, as text.
  auto const table = [](int m) {
    auto const text = pw::csv_of(pw::orders_of<support::zero_bubble_h1>({8, m}).view());
    return pw::make_plan(pw::parse_csv(text).orders.view());
  };
  CHECK_EQ(rate(pw::make_plan<pw::flush>({8, 24}), 18.522, 18.086, 9.337, 0.601), 0.2431);
  CHECK_EQ(rate(pw::make_plan<pw::flush>({8, 32}), 18.513, 18.086, 9.331, 0.626), 0.1985);
  CHECK_EQ(rate(table(24), 18.522, 18.086, 9.337, 0.601), 0.1585);
  CHECK_EQ(rate(table(32), 18.513, 18.086, 9.331, 0.626), 0.1242);
}

TEST_CASE("stages of unequal length, by hand") {
  // Rank 0: F [0,1] [1,2], B [9,12] [12,15].  Rank 1: F [1,4] [4,7], B [7,9] [9,11].
  pw::costs<rational> times;
  times.stage_forward = {1, 3};
  times.stage_backward_input = {2, 1};
  times.stage_backward_weight = {1, 1};
  auto const line = pw::simulate(pw::make_plan<pw::gpipe>({2, 2}).view(), times);
  CHECK(line.makespan == rational(15));
  CHECK(line.ideal == rational(10));
  CHECK(line.longest_rank == rational(15));
}

TEST_CASE("a link that is busy, by hand") {
  // Outputs are made at 1, 2, 3; each holds the link for 2: they arrive at 3, 5, 7.
  pw::costs<rational> times;
  times.occupancy = 2;
  auto const plan = pw::make_plan<pw::forward_only>({2, 3});
  CHECK(pw::simulate(plan.view(), times).makespan == rational(8));
  times.transfer = rational(1, 2);
  CHECK(pw::simulate(plan.view(), times).makespan == rational(17, 2));
}

TEST_CASE("recomputation costs a forward for each micro-batch that runs again") {
  pw::costs<rational> times;
  times.recompute = 1;
  auto total = [&](pw::recompute_mode mode) {
    return pw::simulate(pw::make_plan<pw::gpipe>({1, 5}, {.recompute = mode}).view(), times).makespan;
  };
  CHECK(total(pw::recompute_mode::never) == rational(15));
  CHECK(total(pw::recompute_mode::except_last) == rational(19));
  CHECK(total(pw::recompute_mode::always) == rational(20));
}
