// SPDX-License-Identifier: Apache-2.0
// One model, cut in every way the library has: the same losses and weights, bit for bit.
// sanitizers: --full
#include <cmath>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/toy_stages.hpp>

#include <pipewright/pipeline/optimizer.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/stage/any_stage.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;
using toys::numbers;

namespace {

// A layer of the model's middle, two layers long.
using pair = pw::chain<toys::dense, toys::drop>;
pair make_pair() { return pair{toys::dense{3, 3}, toys::drop{}}; }

struct batch {
  int step;
  void input(int m, numbers& x) const { x = {0.5 - 0.1 * m, 0.25 + 0.05 * step}; }
  void target(int m, numbers& t) const { t = {1.0 - 0.2 * m, 0.1 * step}; }
};

struct outcome {
  std::vector<double> losses;
  std::map<std::string, numbers> weights;
  friend bool operator==(outcome const&, outcome const&) = default;
};

template<class Set> outcome train(pw::plan_view plan, Set const& set, int steps = 4) {
  outcome all;
  std::mutex one_at_a_time;
  pw::in_process::run(plan, [&](auto& here) {
    auto training = pw::pipeline(plan, set, here, pw::sgd{.rate = 0.0005, .momentum = 0.5}, {.seed = 11});
    for (int step = 0; step < steps; ++step)
      if (auto const told = training.step(batch{step}); told.has_loss) all.losses.push_back(told.loss);
    training.drain();
    std::lock_guard lock(one_at_a_time);
    training.template for_each_parameter<double>(
        [&](int, std::string_view name, std::span<double> values, pw::parameter_options) {
          all.weights[std::string(name)].assign(values.begin(), values.end());
        });
  });
  return all;
}

// Eight entries, eleven layers: three pairs count twice.
auto constant_model() {
  return pw::layers(toys::dense{2, 3}, pw::repeated<3>(make_pair), toys::cube{}, toys::dense{3, 3}, toys::dense{3, 2},
                    toys::distance{});
}
auto start_up_model() {
  return pw::layers(
      toys::dense{2, 3}, pw::repeated(make_pair, 3), toys::cube{}, [] { return toys::dense{3, 3}; }, toys::dense{3, 2},
      toys::distance{});
}
using any_layer = pw::any_stage<numbers, numbers, double>;
auto erased_model() {
  std::vector<std::function<any_layer()>> layers{[] { return toys::dense{2, 3}; }};
  for (int i = 0; i < 3; ++i) {
    layers.push_back([] { return toys::dense{3, 3}; });
    layers.push_back([] { return toys::drop{}; });
  }
  layers.insert(layers.end(),
                {[] { return toys::cube{}; }, [] { return toys::dense{3, 3}; }, [] { return toys::dense{3, 2}; }});
  return pw::layers(pw::repeated(layers), pw::any_loss_stage<numbers, numbers, double>(toys::distance{}));
}

outcome const& expected() {
  static outcome const alone =
      train(pw::make_plan<pw::sequential>({.ranks = 1, .micro_batches = 4}), pw::balance<8>(constant_model()));
  return alone;
}

}  // namespace

TEST_CASE("the run that all others are compared with is one") {
  CHECK(expected().losses.size() == 4);
  CHECK(expected().weights.size() == 6);
  for (auto const& [name, values] : expected().weights)
    for (double each : values) CHECK(std::isfinite(each));
  auto const untrained =
      train(pw::make_plan<pw::sequential>({.ranks = 1, .micro_batches = 4}), pw::balance<8>(constant_model()), 0);
  for (auto const& [name, values] : expected().weights) CHECK(values != untrained.weights.at(name));
}

TEST_CASE("cuts at compile time") {
  CHECK(train(pw::make_plan<pw::flush>({.ranks = 2, .micro_batches = 4}), pw::balance<4, 4>(constant_model())) ==
        expected());
  CHECK(train(pw::make_plan<pw::flush>({.ranks = 3, .micro_batches = 4}), pw::balance<1, 2, 5>(constant_model())) ==
        expected());
  CHECK(train(pw::make_plan<pw::gpipe>({.ranks = 4, .micro_batches = 4}), pw::balance<2, 1, 3, 2>(constant_model())) ==
        expected());
  CHECK(train(pw::make_plan<pw::interleaved<2>>({.ranks = 2, .micro_batches = 4}),
              pw::balance<2, 1, 3, 2>(constant_model())) == expected());
  CHECK(train(pw::make_plan<pw::flush>({.ranks = 8, .micro_batches = 4}), pw::stages(constant_model())) == expected());
}

TEST_CASE("cuts at start-up, whatever the sizes and the mode of recomputation") {
  using sizes = std::vector<int>;
  for (sizes const& cut : {sizes{8}, sizes{1, 7}, sizes{4, 4}, sizes{3, 2, 3}, sizes{1, 1, 1, 5}, sizes{5, 1, 1, 1}})
    for (pw::recompute_mode mode : pw::recompute_modes) {
      auto const plan =
          pw::make_plan<pw::flush>({.ranks = static_cast<int>(cut.size()), .micro_batches = 4}, {.recompute = mode});
      CHECK(train(plan, pw::balance(start_up_model(), cut)) == expected());
    }
}

TEST_CASE("layers of forgotten type") {
  for (std::vector<int> const& cut : {std::vector{11}, std::vector{5, 6}, std::vector{2, 3, 6}})
    CHECK(train(pw::make_plan<pw::flush>({.ranks = static_cast<int>(cut.size()), .micro_batches = 4}),
                pw::balance(erased_model(), cut)) == expected());
}

TEST_CASE("stages marked to be recomputed") {
  auto const marked = pw::recompute_each(pw::balance<4, 4>(constant_model()));
  CHECK(train(pw::make_plan<pw::flush>({.ranks = 2, .micro_batches = 4}, {.recompute = pw::recompute_mode::always}),
              marked) == expected());
  CHECK_THROWS_AS(train(pw::make_plan<pw::flush>({.ranks = 2, .micro_batches = 4}), marked), pw::error);
}

TEST_CASE("another seed gives other results") {
  outcome const& one = expected();
  auto plan = pw::make_plan<pw::flush>({.ranks = 2, .micro_batches = 4});
  std::vector<double> other;
  pw::in_process::run(plan, [&](auto& here) {
    auto training = pw::pipeline(plan, pw::balance<4, 4>(constant_model()), here,
                                 pw::sgd{.rate = 0.0005, .momentum = 0.5}, {.seed = 12});
    for (int step = 0; step < 4; ++step)
      if (auto const told = training.step(batch{step}); told.has_loss) other.push_back(told.loss);
  });
  CHECK(other != one.losses);
}

TEST_CASE("another number of stages than the plan has is refused") {
  auto const plan = pw::make_plan<pw::interleaved<2>>({.ranks = 4, .micro_batches = 4});
  try {
    train(plan, pw::balance<2, 1, 3, 2>(constant_model()));
    FAIL("no error");
  } catch (pw::error const& e) {
    CHECK(std::string(e.what()).find("runs 8 stages, but the model is cut into 4; cut it into 8") != std::string::npos);
  }
}
