// SPDX-License-Identifier: Apache-2.0
// Asynchronous schedules on three scalar stages: exactly the fractions of the papers' recurrences.
#include <span>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/transport/in_process.hpp>
#include <support/scalar_model.hpp>
#include <support/scalar_tables.hpp>

namespace pw = pipewright;

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
        pw::in_process::run(plan, [&](pw::in_process::endpoint& here) {
          auto training = pw::pipeline(plan, toys::scalar_model{table.initial}, here, pw::sgd{.rate = 0.25});
          for (int step = 0; step < stop; ++step) {
            auto const first = table.inputs.begin() + step * table.micro_batches;
            if (step * table.micro_batches == table.drained_before) training.drain();
            toys::scalar_batch batch{{first, first + table.micro_batches}};
            if (auto const r = training.step(batch); r.has_loss) losses.push_back(r.loss);
          }
          training.drain();
          training.for_each_parameter<double>([&](int stage, std::string_view, std::span<double> values, pw::parameter_options) {
            weights[static_cast<std::size_t>(stage)] = values[0];
          });
        }, {.mode = mode});
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
