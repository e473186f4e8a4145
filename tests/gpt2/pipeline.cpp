// SPDX-License-Identifier: Apache-2.0
// GPT-2 through pipelines: every synchronous schedule, cut and recompute mode gives the bits of the serial oracle on one
// stage, every asynchronous one the bits of the oracle of its own rule.
#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/gpt2/data.hpp>
#include <pipewright/gpt2/model.hpp>
#include <pipewright/pipeline/oracle.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;

namespace {

constexpr auto steps = 5;

struct setting {
  float dropout = 0.f;
  bool tied = false;
  double clip = 0;

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

// Tokens that make wrong routing show: every micro-batch of every step has its own.
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

auto const optimizer = pw::adamw(1e-2, 0.1);

auto cut(setting const& s, int stages) {
  std::vector<int> sizes(static_cast<std::size_t>(stages), 8 / stages);
  sizes.back() += 8 % stages;
  return pw::balance(gpt2::model(s.model()), std::move(sizes));
}

auto by_oracle(setting const& s, pw::weight_rule rule, pw::shape shape, pw::recompute_mode mode) -> outcome {
  auto stages = cut(s, shape.stages());
  auto oracle = pw::serial_oracle<decltype(stages), pw::adam>(stages, rule, shape, optimizer, s.options(),
                                                              s.needs(shape.stages(), mode));
  outcome o;
  for (int step = 0; step < steps; ++step) {
    auto const result = oracle.step(tokens_of_step{step});
    o.losses.push_back(result.loss);
    if (rule == pw::weight_rule::synchronous) o.norms.push_back(result.gradient_norm);
  }
  oracle.drain();
  o.held_out = oracle.evaluate(tokens_of_step{100}).loss;
  for (int stage = 0; stage < oracle.stages(); ++stage) {
    oracle.for_each_parameter(stage, [&](std::string_view name, auto values, pw::parameter_options) {
      o.weights[std::string(name)].assign(values.begin(), values.end());
    });
  }
  return o;
}

auto by_pipeline(setting const& s, pw::plan_view plan, auto const& stages) -> outcome {
  outcome o;
  std::mutex mutex;
  pw::in_process::run(plan, [&](pw::in_process::endpoint& here) {
    auto training = pw::pipeline(plan, stages, here, optimizer, s.options());
    for (int step = 0; step < steps; ++step) {
      auto const result = training.step(tokens_of_step{step});
      if (!result.has_loss) continue;
      o.losses.push_back(result.loss);
      if (!plan.is_stream()) o.norms.push_back(result.gradient_norm);
    }
    training.drain();
    auto const judged = training.evaluate(tokens_of_step{100});
    auto const lock = std::lock_guard(mutex);
    if (judged.has_loss) o.held_out = judged.loss;
    training.for_each_parameter([&](int, std::string_view name, std::span<float> values, pw::parameter_options) {
      o.weights[std::string(name)].assign(values.begin(), values.end());
    });
  });
  return o;
}

auto by_schedule(setting const& s, char const* schedule, pw::shape shape, pw::recompute_mode mode) -> outcome {
  auto const stages = shape.ranks * std::max(shape.chunks, 1);
  auto const plan = pw::make_plan(schedule, shape, s.needs(stages, mode));
  switch (mode) {
    case pw::recompute_mode::never: return by_pipeline(s, plan, cut(s, stages));
    case pw::recompute_mode::except_last:
      return by_pipeline(s, plan, pw::recompute_each<pw::recompute_mode::except_last>(cut(s, stages)));
    case pw::recompute_mode::always: break;
  }
  return by_pipeline(s, plan, pw::recompute_each<pw::recompute_mode::always>(cut(s, stages)));
}

auto settings() -> std::vector<setting> {
  std::vector<setting> all;
  for (auto const dropout : {0.f, 0.2f}) {
    for (auto const tied : {false, true}) {
      for (auto const clip : {0., 0.5}) all.push_back({dropout, tied, clip});
    }
  }
  return all;
}

constexpr auto modes = {pw::recompute_mode::never, pw::recompute_mode::except_last, pw::recompute_mode::always};

// Where they differ, says so in few words: outcomes are long.
void check_equal(outcome const& a, outcome const& b) {
  CHECK(a.losses == b.losses);
  CHECK(a.norms == b.norms);
  CHECK(a.held_out == b.held_out);
  auto differing = 0;
  REQUIRE(a.weights.size() == b.weights.size());
  for (auto const& [name, values] : a.weights) differing += values != b.weights.at(name);
  CHECK(differing == 0);
}

}  // namespace

TEST_CASE("synchronous schedules give the sequential bits on every cut") {
  std::vector<outcome> seen;
  for (auto const& s : settings()) {
    CAPTURE(s.dropout);
    CAPTURE(s.tied);
    CAPTURE(s.clip);
    auto const expected = by_oracle(s, pw::weight_rule::synchronous, {.ranks = 1, .micro_batches = 4, .chunks = 1},
                                    pw::recompute_mode::never);
    CHECK(std::find(seen.begin(), seen.end(), expected) == seen.end());  // each setting trains another way
    seen.push_back(expected);
    CHECK((expected.weights.at("wte.weight") == expected.weights.at("lm_head.weight")) == s.tied);
    for (auto const mode : modes) {
      for (int ranks = 1; ranks <= 4; ++ranks) {
        CAPTURE(ranks);
        for (auto const* schedule : {"sequential", "gpipe", "flush"}) {
          CAPTURE(schedule);
          check_equal(by_schedule(s, schedule, {.ranks = ranks, .micro_batches = 4}, mode), expected);
        }
        if (ranks > 1)
          check_equal(by_schedule(s, "interleaved", {.ranks = ranks, .micro_batches = 4, .chunks = 2}, mode), expected);
      }
    }
  }
}

TEST_CASE("asynchronous schedules give the bits of the serial oracle of their rule") {
  auto const rules = std::map<std::string, pw::weight_rule>{{"1f1b", pw::weight_rule::stashing},
                                                            {"1f1b-vsync", pw::weight_rule::vertical_sync},
                                                            {"2bw", pw::weight_rule::double_buffered}};
  for (auto const& [schedule, rule] : rules) {
    CAPTURE(schedule);
    for (auto const& s : settings()) {
      CAPTURE(s.dropout);
      CAPTURE(s.tied);
      CAPTURE(s.clip);
      if (rule == pw::weight_rule::stashing && (s.tied || s.clip > 0)) {
        CHECK_THROWS_AS(
            pw::make_plan(schedule, {.ranks = 2, .micro_batches = 4}, s.needs(2, pw::recompute_mode::never)),
            pw::error);
        continue;
      }
      for (int ranks = 1; ranks <= 4; ++ranks) {
        CAPTURE(ranks);
        auto const shape = pw::shape{.ranks = ranks, .micro_batches = 4, .chunks = 1};
        auto const expected = by_oracle(s, rule, shape, pw::recompute_mode::never);
        for (auto const mode : modes) {
          auto const pipelined = by_schedule(s, schedule.c_str(), shape, mode);
          check_equal(pipelined, expected);
        }
      }
    }
  }
}
