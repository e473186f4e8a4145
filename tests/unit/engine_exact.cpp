// SPDX-License-Identifier: Apache-2.0
// Dyadic scalars, on which every sum is exact whatever its order. Asynchronous schedules come to the fractions of the papers'
// recurrences; schedules that the library does not ship (split backwards, descending ones, another placement) to the oracle's
// numbers.
// thread sanitizer: --full
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <support/more_schedules.hpp>
#include <support/scalar_model.hpp>
#include <support/scalar_tables.hpp>
#include <support/train.hpp>

#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;

namespace {

// Small dyadic numbers: every sum is exact.
auto batches = [](int number) { return toys::scalar_batch{{1, 0.5, 0.25, 2, 1, 0.5, 1}, number}; };

template<class Policy>
void check(int ranks, int micro_batches, int chunks, pw::recompute_mode mode = pw::recompute_mode::never) {
  CAPTURE(ranks);
  CAPTURE(micro_batches);
  support::run_of const run{.calls = "sse"};
  int const stages = ranks * chunks;
  std::vector<double> initial(static_cast<std::size_t>(stages), 1);
  initial.front() = 0.5;
  toys::scalar_model const set{initial};
  pw::shape const shape{.ranks = ranks, .micro_batches = micro_batches, .chunks = chunks};
  auto const expected =
      support::train_serially(pw::weight_rule::synchronous, shape, set, batches, pw::sgd{.rate = 0.125}, run);
  auto const plan = pw::make_plan<Policy>(shape, {.recompute = mode});
  auto const found = support::train_in_pipeline<double>(plan.view(), pw::recompute_each(set, mode), batches,
                                                        pw::sgd{.rate = 0.125}, run);
  CHECK(found.losses == expected.losses);
  CHECK(found.evaluations == expected.evaluations);
  CHECK(found.weights == expected.weights);
}

}  // namespace

TEST_CASE("descending backwards") {
  for (int ranks = 1; ranks <= 4; ++ranks)
    for (int m : {1, 2, 4}) check<support::descending_gpipe>(ranks, m, 1);
}

TEST_CASE("split backwards, the weight gradients late") {
  for (int ranks = 1; ranks <= 4; ++ranks)
    for (int m : {1, 2, 4, 6}) {
      check<support::zero_bubble_h1>(ranks, m, 1);
      check<support::zero_bubble_h1>(ranks, m, 1, pw::recompute_mode::always);
      check<support::zero_bubble_h1>(ranks, m, 1, pw::recompute_mode::except_last);
    }
}

TEST_CASE("a V-shaped placement, the loss on the first rank") {
  for (int ranks = 1; ranks <= 3; ++ranks)
    for (int m : {1, 2, 4}) check<support::breadth_first_v>(ranks, m, 2);
}

namespace {

std::string_view schedule_of(pw::weight_rule rule) {
  return rule == pw::weight_rule::stashing ? "1f1b" : rule == pw::weight_rule::vertical_sync ? "1f1b-vsync" : "2bw";
}

}  // namespace

TEST_CASE("a stream cut short anywhere ends in exactly the version of the recurrences") {
  for (auto const& table : toys::scalar_tables())
    for (auto mode : {pw::in_process::strict, pw::in_process::buffered}) {
      CAPTURE(table.name);
      auto const plan = pw::make_plan(schedule_of(table.rule), {.ranks = 3, .micro_batches = table.micro_batches});
      int const steps = static_cast<int>(table.inputs.size()) / table.micro_batches;
      for (int stop = 0; stop <= steps; ++stop) {
        CAPTURE(stop);
        std::vector<double> weights(3), losses;
        pw::in_process::run(plan,
                            [&](pw::in_process::endpoint& here) {
                              auto training =
                                  pw::pipeline(plan, toys::scalar_model{table.initial}, here, pw::sgd{.rate = 0.25});
                              for (int step = 0; step < stop; ++step) {
                                auto const first = table.inputs.begin() + step * table.micro_batches;
                                if (step * table.micro_batches == table.drained_before) training.drain();
                                toys::scalar_batch batch{{first, first + table.micro_batches}};
                                if (auto const r = training.step(batch); r.has_loss) losses.push_back(r.loss);
                              }
                              training.drain();
                              training.for_each_parameter<double>(
                                  [&](int stage, std::string_view, std::span<double> values, pw::parameter_options) {
                                    weights[static_cast<std::size_t>(stage)] = values[0];
                                  });
                            },
                            {.mode = mode});
        for (std::size_t s = 0; s < 3; ++s) CHECK(weights[s] == table.versions[s][static_cast<std::size_t>(stop)]);
        REQUIRE(losses.size() == static_cast<std::size_t>(stop));
        for (std::size_t step = 0; step < losses.size(); ++step) {
          double sum = 0;
          for (std::size_t m = 0; m < static_cast<std::size_t>(table.micro_batches); ++m) {
            double const y = table.outputs[step * static_cast<std::size_t>(table.micro_batches) + m];
            sum += y * y / 2;
          }
          CHECK(losses[step] == sum / table.micro_batches);
        }
      }
    }
}
