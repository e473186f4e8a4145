// SPDX-License-Identifier: Apache-2.0
// The toy model's layers keep a stage's laws, and the oracle trains it: the same bits however it is cut.
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>
#include <laws/stage.hpp>
#include <support/toy_model.hpp>

#include <pipewright/pipeline/oracle.hpp>

namespace pw = pipewright;
using namespace toys;
using laws::check_stage;
using laws::example;

namespace {
using numbers = std::vector<double>;
numbers const six{0.5, -1.5, 0.25, 1, 0.75, -0.5}, gradient{1, -0.25, 0.5, 0.125, 2, -1};
}  // namespace

TEST_CASE("every layer of the toy model is a stage") {
  check_stage(example<toys::embedding<double>>{.make = [] { return toys::embedding<double>{}; },
                                               .input = {4, 0},
                                               .output_gradient = gradient,
                                               .context = {.seed = 5}});
  split_values<double> const both{six, six, 2}, dy{gradient, gradient, 2}, odd{{0.5, -1.5, 0.25}, std::nullopt, 1},
      d_odd{{1, -0.25, 0.5}, std::nullopt, 1};
  check_stage(example<split<double>>{.make = [] { return split<double>{}; }, .input = six, .output_gradient = dy});
  check_stage(example<split<double>>{
      .make = [] { return split<double>{}; }, .input = {0.5, -1.5, 0.25}, .output_gradient = d_odd});
  check_stage(example<drop<double>>{
      .make = [] { return drop<double>{}; }, .input = both, .output_gradient = dy, .context = {.seed = 8}});
  check_stage(example<merge<double>>{.make = [] { return merge<double>{}; },
                                     .input = both,
                                     .output_gradient = {gradient, 2},
                                     .context = {.layer = 3, .seed = 5}});
  check_stage(example<merge<double>>{.make = [] { return merge<double>{}; },
                                     .input = odd,
                                     .output_gradient = {{1, -0.25, 0.5}, 1},
                                     .context = {.layer = 3}});
  check_stage(example<block<double>>{.make = [] { return block<double>{}; },
                                     .input = {six, 2},
                                     .output_gradient = {gradient, 2},
                                     .context = {.layer = 4, .seed = 5}});
  check_stage(example<head<double>>{
      .make = [] { return head<double>{}; }, .input = {six, 2}, .target = {3, -1}, .context = {.seed = 5}});
}

namespace {

struct outcome {
  std::vector<double> losses, norms;
  std::vector<std::pair<std::string, std::vector<double>>> weights;
  bool operator==(outcome const&) const = default;
};

outcome train(int stages, bool with_dropout, pw::pipeline_options options, pw::needs wants = {}, int steps = 5) {
  pw::shape const s{.ranks = stages, .micro_batches = 4, .chunks = 1};
  pw::serial_oracle oracle(toy_stages<double>(stages, with_dropout), pw::weight_rule::synchronous, s, pw::adamw(0.05),
                           options, wants);
  outcome result;
  for (int step = 0; step < steps; ++step) {
    auto const r = oracle.step(toy_batch{step});
    result.losses.push_back(r.loss);
    result.norms.push_back(r.gradient_norm);
  }
  for (int each = 0; each < stages; ++each)
    oracle.for_each_parameter(each, [&](std::string_view name, auto values, pw::parameter_options) {
      result.weights.emplace_back(name, std::vector<double>(values.begin(), values.end()));
    });
  return result;
}

}  // namespace

TEST_CASE("the cut changes no bit, dropout, clipping, ties and scales do") {
  pw::pipeline_options const plain{.seed = 3, .clip = 0.5};
  auto const whole = train(1, true, plain);
  REQUIRE(whole.weights.size() == 7);
  for (int stages : {2, 3, 4, 8}) CHECK(train(stages, true, plain) == whole);
  CHECK(train(1, false, plain).losses != whole.losses);
  CHECK(train(1, true, {.seed = 4, .clip = 0.5}).losses != whole.losses);
  CHECK(train(1, true, {.seed = 3}).weights != whole.weights);
  CHECK(train(1, true, {.seed = 3, .scale = pw::loss_scale::sum, .clip = 0.5}).losses[0] == 4 * whole.losses[0]);
  CHECK(train(1, true, {.seed = 3, .scale = pw::loss_scale::per_token, .clip = 0.5}).weights != whole.weights);
  CHECK(train(1, true, {.seed = 3, .clip = 0.5, .accumulate = 2}).weights != whole.weights);

  pw::pipeline_options const ties{.seed = 3, .clip = 0.5, .tied = {"table", "head"}};
  auto const tied = train(1, true, ties, {.tied_first = 0, .tied_second = 0});
  CHECK(tied.weights.front().second == tied.weights.back().second);
  CHECK(tied.losses != whole.losses);
  for (int stages : {2, 3, 4, 8})
    CHECK(train(stages, true, ties, {.tied_first = 0, .tied_second = stages - 1}) == tied);
  CHECK(train(1, true, plain, {}, 40).losses.back() < whole.losses.front());
}
