// SPDX-License-Identifier: Apache-2.0
#pragma once
// A GPT-2 of six blocks that trains for a few steps: what tests of pipelines compare.
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/gpt2/boundary.hpp>
#include <pipewright/gpt2/configuration.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/transport/any_transport.hpp>

namespace small_training {

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;

struct setting {
  float dropout = 0.f;
  bool tied = false;
  double clip = 0;
  int steps = 5;

  [[nodiscard]] auto model() const -> gpt2::configuration {
    return {.vocabulary = 13,
            .positions = 5,
            .width = 8,
            .heads = 2,
            .layers = 6,
            .embedding_dropout = dropout,
            .attention_dropout = dropout,
            .residual_dropout = dropout};
  }
  [[nodiscard]] auto options() const -> pw::pipeline_options {
    auto o = pw::pipeline_options{.seed = 7, .clip = clip};
    if (tied) o.tied = {"wte.weight", "lm_head.weight"};
    return o;
  }
  [[nodiscard]] auto needs(int stages, pw::recompute_mode mode) const -> pw::needs {
    return {
        .recompute = mode, .step_facts = clip > 0, .tied_first = tied ? 0 : -1, .tied_second = tied ? stages - 1 : -1};
  }
};

/// Tokens that make wrong routing show: every micro-batch of every step has its own.
struct tokens_of_step {
  int step;
  void input(int micro_batch, gpt2::token_batch& to) const { fill(micro_batch, 1, to); }
  void target(int micro_batch, gpt2::token_batch& to) const { fill(micro_batch, 5, to); }
  void fill(int micro_batch, int factor, gpt2::token_batch& to) const {
    to.batch = {2, 5};
    to.ids.resize(10);
    for (int i = 0; i < 10; ++i)
      to.ids[static_cast<std::size_t>(i)] = (factor * (i * i + 3 * micro_batch) + 7 * step) % 13;
  }
};

struct outcome {
  std::vector<double> losses;
  std::vector<double> norms;
  double held_out = 0;
  std::map<std::string, std::vector<float>> weights;
  friend auto operator==(outcome const&, outcome const&) -> bool = default;
};

/// Eight layers as so many stages.
auto cut(auto const& model, int stages) {
  std::vector<int> sizes(static_cast<std::size_t>(stages), 8 / stages);
  sizes.back() += 8 % stages;
  return pw::balance(model, std::move(sizes));
}

/// How a rank runs each of its steps.
using way_to_step = std::function<void(std::function<void()> const& step)>;

/// A rank's part of a training; what it sees of it goes to `o`. A function of its own, so that a test may have it compiled elsewhere.
template<class Stages, class Optimizer>
void train_rank(setting const& s, pw::plan_view plan, Stages const& stages, Optimizer const& optimizer,
                pw::any_transport& here, way_to_step const& way, outcome& o, std::mutex& mutex) {
  auto training = pw::pipeline(plan, stages, here, optimizer, s.options());
  for (int step = 0; step < s.steps; ++step) {
    pw::step_result result;
    way([&] { result = training.step(tokens_of_step{step}); });
    if (!result.has_loss) continue;
    o.losses.push_back(result.loss);
    if (!plan.is_stream()) o.norms.push_back(result.gradient_norm);
  }
  training.drain();
  auto const judged = training.evaluate(tokens_of_step{100});
  decltype(o.weights) mine;  // asked for before the lock: who waits for one moves nothing for others
  training.for_each_parameter([&](int, std::string_view name, std::span<float> values, pw::parameter_options) {
    mine[std::string(name)].assign(values.begin(), values.end());
  });
  auto const lock = std::lock_guard(mutex);
  if (judged.has_loss) o.held_out = judged.loss;
  for (auto& [name, values] : mine) o.weights[name] = std::move(values);
}

/// A rank's way to run its steps: as they are.
inline constexpr auto as_it_is = [](auto&) { return [](auto const& step) { step(); }; };

/// Trains over what run(plan, f) makes of ranks: f(endpoint) on each, whose steps are run by by(endpoint)(step).
auto by_pipeline(setting const& s, pw::plan_view plan, auto const& stages, auto const& optimizer, auto const& run,
                 auto const& by) -> outcome {
  outcome o;
  std::mutex mutex;
  run(plan, [&](auto& here) {
    auto way = by(here);
    pw::any_transport_of over(here);
    train_rank(s, plan, stages, optimizer, over, [&](auto const& step) { way(step); }, o, mutex);
  });
  return o;
}

auto by_pipeline(setting const& s, pw::plan_view plan, auto const& stages, auto const& optimizer, auto const& run)
    -> outcome {
  return by_pipeline(s, plan, stages, optimizer, run, as_it_is);
}

/// Where they differ, says so in few words: outcomes are long.
inline void check_equal(outcome const& a, outcome const& b) {
  CHECK(a.losses == b.losses);
  CHECK(a.norms == b.norms);
  CHECK(a.held_out == b.held_out);
  auto differing = 0;
  REQUIRE(a.weights.size() == b.weights.size());
  for (auto const& [name, values] : a.weights) differing += values != b.weights.at(name);
  CHECK(differing == 0);
}

}  // namespace small_training
