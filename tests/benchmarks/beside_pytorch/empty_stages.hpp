// SPDX-License-Identifier: Apache-2.0
#pragma once
// What an action costs where stages do nothing: boundaries of one number, two processes.

#include <string>
#include <vector>

#include <benchmarks/support.hpp>

#include "command_line.hpp"

namespace benchmarks {

/// Prints, on rank 0, {"rank", "seconds" of each step, "actions" of a rank in a step: each an F or a B}.
void time_steps(auto& here, command_line const& given, auto const& stages_of, auto const& batch) {
  auto const schedule = given.text("schedule");
  pw::shape const shape{.ranks = here.size(),
                        .micro_batches = given.number("micro-batches"),
                        .chunks = schedule == "interleaved" ? 2 : 1};
  auto const plan = pw::make_plan(schedule, shape);
  auto training = pw::pipeline(plan, stages_of(shape.stages()), here, pw::sgd{});
  std::vector<double> taken;
  for (int step = 0; step < given.number("steps"); ++step) {
    double const start = seconds();
    training.step(batch);
    taken.push_back(seconds() - start);
  }
  if (here.rank() > 0) return;
  std::printf(R"({"rank": %d, "seconds": %s, "actions": %d})"
              "\n",
              here.rank(), json(taken).c_str(), 2 * shape.micro_batches * shape.chunks);
}

}  // namespace benchmarks
