// SPDX-License-Identifier: Apache-2.0
// GPT-2 through pipelines: every synchronous schedule, cut and recompute mode gives the bits of the serial oracle on one
// stage, every asynchronous one the bits of the oracle of its own rule.
#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <gpt2/small_training.hpp>

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

using namespace small_training;

auto const optimizer = pw::adamw(1e-2, 0.1);

auto cut(setting const& s, int stages) { return small_training::cut(gpt2::model(s.model()), stages); }

auto by_oracle(setting const& s, pw::weight_rule rule, pw::shape shape, pw::recompute_mode mode) -> outcome {
  auto stages = cut(s, shape.stages());
  auto oracle = pw::serial_oracle<decltype(stages), pw::adam>(stages, rule, shape, optimizer, s.options(),
                                                              s.needs(shape.stages(), mode));
  outcome o;
  for (int step = 0; step < s.steps; ++step) {
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
  return small_training::by_pipeline(s, plan, stages, optimizer,
                                     [](auto const& ranks, auto f) { pw::in_process::run(ranks, f); });
}

auto by_schedule(setting const& s, char const* schedule, pw::shape shape, pw::recompute_mode mode) -> outcome {
  auto const stages = shape.ranks * std::max(shape.chunks, 1);
  auto const plan = pw::make_plan(schedule, shape, s.needs(stages, mode));
  return by_pipeline(s, plan, pw::recompute_each(cut(s, stages), mode));
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
    for (auto const mode : pw::recompute_modes) {
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
        for (auto const mode : pw::recompute_modes) {
          auto const pipelined = by_schedule(s, schedule.c_str(), shape, mode);
          check_equal(pipelined, expected);
        }
      }
    }
  }
}
