// SPDX-License-Identifier: Apache-2.0
// What the engine itself costs: empty stages on one rank, no transfers, no observer. per_action is the processor time of a step
// over its F and B; the update is in the time and not in the count. Goal: at most 50 ns.
//   engine [Google Benchmark's options]
#include <string>

#include <benchmark/benchmark.h>
#include <benchmarks/support.hpp>

#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;

namespace {

void step(benchmark::State& state, std::string_view schedule, pw::shape shape) {
  auto const plan = pw::make_plan(schedule, shape);
  pw::in_process::world world(1);
  pw::in_process::endpoint here(world, 0);
  auto training = pw::pipeline(plan.view(), benchmarks::stages_of<benchmarks::nothing_to_do>{plan.view().stages()},
                               here, pw::sgd{});
  benchmarks::empty_batch const batch;
  for (auto _ : state) training.step(batch);
  double const actions = 2.0 * plan.view().stages() * shape.micro_batches;
  state.counters["per_action"] =
      benchmark::Counter(actions, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

}  // namespace

int main(int argc, char** argv) {
  for (auto const schedule : benchmarks::training_schedules) {
    pw::shape shape{.ranks = 1, .micro_batches = 32};
    if (schedule == "interleaved") shape.chunks = 8;
    benchmark::RegisterBenchmark((std::string(schedule) + "/stages:" + std::to_string(shape.stages())).c_str(), step,
                                 schedule, shape)
        ->Repetitions(7)
        ->ReportAggregatesOnly()
        ->MinTime(0.05);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
