// SPDX-License-Identifier: Apache-2.0
// Question: which schedule suits my ranks, micro-batches and stage times? Asks the library what schedule_explorer asks:
// every schedule that can have the shape, simulated and counted, the fastest one drawn.
#include <cstdio>
#include <iostream>
#include <optional>

#include <pipewright/plan/memory.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/trace/chart.hpp>
#include <pipewright/trace/timeline.hpp>

namespace pw = pipewright;

int main() {
  pw::shape const wanted{.ranks = 4, .micro_batches = 8};
  pw::costs<double> cost;  // of a rank and micro-batch, in milliseconds, say
  cost.forward = 5;
  cost.backward_input = 6;
  cost.backward_weight = 4;
  cost.transfer = 0.5;

  std::optional<pw::trace> fastest;
  std::printf("%-12s %10s %8s %22s\n", "schedule", "makespan", "bubble", "in flight on rank 0");
  pw::for_each_schedule(pw::all_schedules{}, [&](auto policy) {
    using schedule = typename decltype(policy)::type;
    if (schedule::backward == pw::backward_form::none) return;  // evaluation trains nothing
    pw::shape const s = pw::complete<schedule>(wanted);
    if (!pw::check_shape<schedule>(s).ok()) return;
    auto const plan = pw::make_unrolled_plan<schedule>(s);  // a stream for one batch, then drained
    auto const times = pw::simulate(plan.view(), cost);
    std::printf("%-12s %7.1f ms %6.1f %% %15d chunks of %d\n", schedule::name.data(), times.makespan,
                100 * times.bubble_of_makespan(), pw::peak_in_flight(plan.view(), 0), s.chunks);
    auto drawn = pw::trace_of(plan.view(), times);
    if (!fastest || pw::totals_of(drawn).length() < pw::totals_of(*fastest).length()) fastest = std::move(drawn);
  });
  std::cout << "\nthe fastest: " << fastest->title << "\n" << pw::chart(*fastest, {.legend = true});
}
