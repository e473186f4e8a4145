// SPDX-License-Identifier: Apache-2.0
#pragma once
// One training run, through a pipeline of threads or by the serial oracle, and all that it comes to, bit by bit.

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/pipeline/oracle.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/transport/in_process.hpp>

namespace support {

namespace pw = pipewright;

/// What a run has come to.
struct outcome {
  std::vector<double> losses, evaluations, norms;
  bool ranks_agree = true;  ///< on the norms and the number of updates
  std::int64_t updates = 0;
  std::vector<std::pair<std::string, std::vector<double>>> weights;  ///< by name, in the model's order
  bool operator==(outcome const&) const = default;
};

/// A run: what every rank calls, one letter each: s step, d drain, e evaluate.
struct run_of {
  std::string_view calls = "sssss";
  pw::pipeline_options options{};
  pw::in_process::options link{};
};

namespace detail {

/// Batches come from make_batch(number), a step's number from 0, an evaluation's from 1000.
void follow(std::string_view calls, auto& training, auto const& make_batch, outcome& into) {
  int steps = 0, evaluations = 1000;
  for (char const call : calls) {
    if (call == 'd') training.drain();
    if (call == 's') {
      auto batch = make_batch(steps++);
      auto const r = training.step(batch);
      into.norms.push_back(r.gradient_norm);
      if (r.has_loss) into.losses.push_back(r.loss);
    }
    if (call == 'e') {
      auto batch = make_batch(evaluations++);
      if (auto const r = training.evaluate(batch); r.has_loss) into.evaluations.push_back(r.loss);
    }
  }
  training.drain();
}

}  // namespace detail

template<class T> outcome train_in_pipeline(pw::plan_view plan, auto const& set, auto const& make_batch,
                                            auto const& optimizer, run_of const& run) {
  std::vector<outcome> each(static_cast<std::size_t>(plan.facts.ranks));
  std::vector<std::vector<std::pair<std::string, std::vector<double>>>> weights(
      static_cast<std::size_t>(plan.stages()));
  pw::in_process::run(
      plan,
      [&](pw::in_process::endpoint& here) {
        auto training = pw::pipeline(plan, set, here, optimizer, run.options);
        outcome& mine = each[static_cast<std::size_t>(here.rank())];
        detail::follow(run.calls, training, make_batch, mine);
        mine.updates = training.result().updates;
        training.template for_each_parameter<T>(
            [&](int stage, std::string_view name, std::span<T> values, pw::parameter_options) {
              weights[static_cast<std::size_t>(stage)].emplace_back(name,
                                                                    std::vector<double>(values.begin(), values.end()));
            });
      },
      run.link);
  outcome all = each[static_cast<std::size_t>(plan.rank_of_stage[plan.stages() - 1])];
  for (auto const& one : each)
    all.ranks_agree = all.ranks_agree && one.norms == all.norms && one.updates == all.updates;
  for (auto& stage : weights) all.weights.insert(all.weights.end(), stage.begin(), stage.end());
  return all;
}

outcome train_serially(pw::weight_rule rule, pw::shape shape, auto const& set, auto const& make_batch,
                       auto const& optimizer, run_of const& run, pw::needs wants = {}) {
  pw::serial_oracle training(set, rule, shape, optimizer, run.options, wants);
  outcome all;
  detail::follow(run.calls, training, make_batch, all);
  all.updates = training.updates();
  for (int s = 0; s < training.stages(); ++s)
    training.for_each_parameter(s, [&](std::string_view name, auto values, pw::parameter_options) {
      all.weights.emplace_back(name, std::vector<double>(values.begin(), values.end()));
    });
  return all;
}

}  // namespace support
