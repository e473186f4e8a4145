// SPDX-License-Identifier: Apache-2.0
// The serial oracle against exact fractions and against sums done by hand.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/scalar_model.hpp>
#include <support/scalar_tables.hpp>

#include <pipewright/pipeline/oracle.hpp>
#include <pipewright/stage/balance.hpp>

namespace pw = pipewright;
using toys::dyadic;
using toys::scalar_batch;
using toys::scalar_model;

namespace {

constexpr pw::sgd quarter{.rate = 0.25};

pw::shape shape_of(int ranks, int micro_batches) {
  return {.ranks = ranks, .micro_batches = micro_batches, .chunks = 1};
}

std::vector<double> weights_of(auto& oracle) {
  std::vector<double> all;
  for (int s = 0; s < oracle.stages(); ++s)
    oracle.for_each_parameter(s,
                              [&](std::string_view, auto values, pw::parameter_options) { all.push_back(values[0]); });
  return all;
}

// By stage, every version; an update a step.
std::vector<std::vector<double>> run(auto& oracle, std::vector<double> const& inputs, int micro_batches,
                                     int drained_before, std::vector<double>* losses = nullptr) {
  std::vector<std::vector<double>> versions;
  auto note = [&] {
    auto const now = weights_of(oracle);
    versions.resize(now.size());
    for (std::size_t s = 0; s < now.size(); ++s) versions[s].push_back(now[s]);
  };
  note();
  for (std::size_t at = 0; at < inputs.size(); at += static_cast<std::size_t>(micro_batches)) {
    if (static_cast<int>(at) == drained_before) oracle.drain();
    auto const first = inputs.begin() + static_cast<std::ptrdiff_t>(at);
    auto const result = oracle.step(scalar_batch{{first, first + micro_batches}});
    if (losses != nullptr) losses->push_back(result.loss);
    note();
  }
  return versions;
}

}  // namespace

TEST_CASE("the oracle makes exactly the fractions of the recurrences") {
  for (auto const& table : toys::scalar_tables()) {
    CAPTURE(table.name);
    pw::serial_oracle oracle(scalar_model{table.initial}, table.rule, shape_of(3, table.micro_batches), quarter);
    std::vector<double> losses;
    CHECK(run(oracle, table.inputs, table.micro_batches, table.drained_before, &losses) == table.versions);
    std::vector<double> expected;
    for (std::size_t i = 0; i < table.outputs.size(); i += static_cast<std::size_t>(table.micro_batches)) {
      double sum = 0;
      for (std::size_t m = i; m < i + static_cast<std::size_t>(table.micro_batches); ++m)
        sum += table.outputs[m] * table.outputs[m] / 2;
      expected.push_back(sum / table.micro_batches);
    }
    CHECK(losses == expected);
  }
}

TEST_CASE("without stashing stage 0 differs, and the stages after it do not") {
  pw::serial_oracle control(scalar_model{{1, 1, 1}}, pw::weight_rule::stashing, shape_of(3, 1), quarter, {}, {},
                            pw::backward_reads::newest);
  auto const versions = run(control, {1, 1, 1, 1}, 1, -1);
  CHECK(versions[0] == std::vector{1.0, 0.75, dyadic(165, 8), dyadic(159483, 18), dyadic(2611091904303, 42)});
  CHECK(versions[1] == std::vector{1.0, 0.75, dyadic(39, 6), dyadic(2253, 12), dyadic(2276437953, 32)});
  CHECK(versions[2] == std::vector{1.0, 0.75, dyadic(9, 4), dyadic(495, 10), dyadic(122985225, 28)});
}

TEST_CASE("recomputed without stashing, the gradients of all of a stage's layers differ but the first's") {
  // Two layers a stage: the second one's input is made again from the newest weights of the first.
  auto final_weights = [](pw::recompute_mode mode, pw::backward_reads reads) {
    auto set = pw::balance(pw::layers(pw::repeated([] { return toys::scaling{}; }, 4), toys::half_square{}), {2, 2, 1});
    pw::serial_oracle oracle(set, pw::weight_rule::stashing, shape_of(3, 1), quarter, {}, {.recompute = mode}, reads);
    for (double x : {1.0, 0.5}) oracle.step(scalar_batch{{x}});
    return weights_of(oracle);
  };
  using enum pw::recompute_mode;
  using enum pw::backward_reads;
  auto const stashed = final_weights(never, version_of_forward), once = final_weights(never, newest),
             again = final_weights(always, newest);
  CHECK(final_weights(always, version_of_forward) == stashed);
  for (std::size_t first : {0, 2}) {
    CHECK(once[first] != stashed[first]);  // passes through the second one's weight
    CHECK(again[first] == once[first]);
    CHECK(again[first + 1] != once[first + 1]);
  }
  CHECK(once[3] == stashed[3]);  // passes through no weight of another version
}

TEST_CASE("under stashing and vertical sync a stage's delay does not pass what came since the drain") {
  for (auto rule : {pw::weight_rule::stashing, pw::weight_rule::vertical_sync})
    for (int ranks = 1; ranks <= 5; ++ranks) {
      CAPTURE(ranks);
      std::vector<double> const initial(static_cast<std::size_t>(ranks), 1);
      pw::serial_oracle drained(scalar_model{initial}, rule, shape_of(ranks, 1), quarter);
      pw::serial_oracle synchronous(scalar_model{initial}, pw::weight_rule::synchronous, shape_of(ranks, 1), quarter);
      for (double x : {1.0, 0.5, 0.75, 1.0}) {
        drained.drain();  // before every micro-batch: nothing is late
        CHECK(drained.step(scalar_batch{{x}}).loss == synchronous.step(scalar_batch{{x}}).loss);
        CHECK(weights_of(drained) == weights_of(synchronous));
      }
    }
}

TEST_CASE("the scale of the loss, and accumulation over steps") {
  // One stage: g(x) = w x^2, W = 1 and lr 1/4, inputs 1 and 1/2: the gradients are 1 and 1/4.
  auto after = [](pw::pipeline_options options, std::vector<std::vector<double>> const& batches) {
    pw::serial_oracle oracle(scalar_model{{1}}, pw::weight_rule::synchronous,
                             shape_of(1, static_cast<int>(batches[0].size())), quarter, options);
    double loss = 0;
    for (auto const& each : batches) loss = oracle.step(scalar_batch{each}).loss;
    return std::vector{weights_of(oracle)[0], loss};
  };
  CHECK(after({}, {{1, 0.5}}) == std::vector{1 - 5.0 / 32, 5.0 / 16});
  CHECK(after({.scale = pw::loss_scale::sum}, {{1, 0.5}}) == std::vector{1 - 5.0 / 16, 5.0 / 8});
  CHECK(after({.scale = pw::loss_scale::per_token}, {{1, 0.5}}) ==
        std::vector{1 - 5.0 / 32, 5.0 / 16});  // both weigh 1
  CHECK(after({.accumulate = 2}, {{1, 0.5}}) == std::vector{1.0, 5.0 / 16});
  CHECK(after({.accumulate = 2}, {{1, 0.5}, {1, 1}}) == std::vector{1 - 13.0 / 64, 0.5});  // the loss is the step's
}

TEST_CASE("evaluation drains, changes nothing, and reads the newest weights") {
  pw::serial_oracle oracle(scalar_model{{1, 1}}, pw::weight_rule::stashing, shape_of(2, 1), quarter);
  CHECK(oracle.evaluate(scalar_batch{{1}}).loss == 0.5);
  oracle.step(scalar_batch{{1}});
  auto const before = weights_of(oracle);
  CHECK(before == std::vector{0.75, 0.75});
  CHECK(oracle.evaluate(scalar_batch{{2}}).loss == std::pow(2 * 0.75 * 0.75, 2) / 2);
  CHECK(weights_of(oracle) == before);
}

TEST_CASE("a tied weight is one weight") {
  // y = w w x: its gradient is the derivative of w^4 x^2 / 2, 2 w^3 x^2.
  pw::needs const tied{.tied_first = 0, .tied_second = 1};
  pw::pipeline_options const options{.tied = {"w", "w"}};
  pw::serial_oracle oracle(scalar_model{{0.5, 0.5}}, pw::weight_rule::synchronous, shape_of(2, 1), quarter, options,
                           tied);
  oracle.step(scalar_batch{{1}});
  CHECK(weights_of(oracle) == std::vector{0.5 - 0.25 * 2 * 0.125, 0.5 - 0.25 * 2 * 0.125});
}

TEST_CASE("clipping: a tied weight counts once, at its first stage, and each stage may have a norm of its own") {
  // Gradients y = w0 w1 x: w1 x y = 3/2 * 1 * 3 and w0 x y = 2 * 3.
  pw::serial_oracle by_model(scalar_model{{2, 1.5}}, pw::weight_rule::synchronous, shape_of(2, 1), pw::sgd{.rate = 1},
                             {.clip = 1});
  auto const result = by_model.step(scalar_batch{{1}});
  CHECK(result.gradient_norm == 7.5);
  double const coefficient = 1 / (7.5 + 1e-6);
  CHECK(weights_of(by_model) == std::vector{2 - 4.5 * coefficient, 1.5 - 6 * coefficient});

  pw::serial_oracle by_stage(scalar_model{{2, 1.5}}, pw::weight_rule::stashing, shape_of(2, 1), pw::sgd{.rate = 1},
                             {.clip = 5, .clip_over = pw::clip_scope::stage});
  by_stage.step(scalar_batch{{1}});
  CHECK(weights_of(by_stage) == std::vector{2 - 4.5, 1.5 - 6 * (5 / (6 + 1e-6))});

  pw::needs const tied{.tied_first = 0, .tied_second = 1};
  pw::serial_oracle together(scalar_model{{0.5, 0.5}}, pw::weight_rule::synchronous, shape_of(2, 1), quarter,
                             {.clip = 1, .tied = {"w", "w"}}, tied);
  CHECK(together.step(scalar_batch{{1}}).gradient_norm == 0.25);
}

TEST_CASE("gradients that are not finite stop or are passed over") {
  double const infinite = std::numeric_limits<double>::infinity();
  pw::serial_oracle skips(scalar_model{{1, 1}}, pw::weight_rule::synchronous, shape_of(2, 1), pw::adam{.rate = 0.1},
                          {.non_finite = pw::on_non_finite::skip});
  CHECK(skips.step(scalar_batch{{infinite}}).updates == 0);
  CHECK(weights_of(skips) == std::vector{1.0, 1.0});
  CHECK(skips.step(scalar_batch{{1}}).updates == 1);  // a first update, with the correction of a first update
  for (double const w : weights_of(skips)) CHECK(w == doctest::Approx(0.9));
  pw::serial_oracle stops(scalar_model{{1, 1}}, pw::weight_rule::synchronous, shape_of(2, 1), quarter,
                          {.non_finite = pw::on_non_finite::stop});
  CHECK_THROWS_AS(stops.step(scalar_batch{{infinite}}), pw::error);
}

TEST_CASE("what a rule cannot keep is refused") {
  scalar_model const three{{1, 1, 1}};
  CHECK_THROWS_AS(pw::serial_oracle(three, pw::weight_rule::synchronous, shape_of(2, 1), quarter), pw::error);
  CHECK_THROWS_AS(pw::serial_oracle(three, pw::weight_rule::stashing, shape_of(3, 1), quarter, {.clip = 1}), pw::error);
  CHECK_THROWS_AS(pw::serial_oracle(three, pw::weight_rule::stashing, shape_of(3, 1), quarter, {},
                                    {.tied_first = 0, .tied_second = 1}),
                  pw::error);
  CHECK_THROWS_AS(pw::serial_oracle(three, pw::weight_rule::vertical_sync, shape_of(3, 1), quarter, {.accumulate = 2}),
                  pw::error);
  CHECK_THROWS_AS(
      pw::serial_oracle(three, pw::weight_rule::stashing, {.ranks = 1, .micro_batches = 1, .chunks = 3}, quarter),
      pw::error);
}
