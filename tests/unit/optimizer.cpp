// SPDX-License-Identifier: Apache-2.0
// Optimizers and learning rates against closed forms and against PyTorch's.
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include <doctest/doctest.h>
#include <support/optimizer_table.hpp>

#include <pipewright/pipeline/optimizer.hpp>
#include <pipewright/pipeline/options.hpp>

namespace pw = pipewright;

namespace {

// A parameter with its optimizer's state.
template<class T, class Optimizer> struct parameter {
  Optimizer optimizer;
  std::vector<T> values;
  pw::parameter_options options{};
  std::array<std::vector<T>, Optimizer::states> states{};
  std::int64_t number = 0;

  void update(std::vector<T> const& gradient, double scale = 1, bool in_place = false) {
    std::vector<T> fresh(values.size());
    std::array<std::span<T>, Optimizer::states> state;
    for (std::size_t s = 0; s < state.size(); ++s) {
      states[s].resize(values.size());
      state[s] = states[s];
    }
    optimizer.update({.number = ++number, .gradient_scale = scale}, options, std::span<T const>(values),
                     std::span<T const>(gradient), in_place ? std::span<T>(values) : std::span<T>(fresh), state);
    if (!in_place) values = std::move(fresh);
  }
};

template<class T, class O> parameter<T, O> start(O optimizer, std::vector<T> values,
                                                 pw::parameter_options options = {}) {
  return {std::move(optimizer), std::move(values), options};
}

}  // namespace

TEST_CASE_TEMPLATE("PyTorch's optimizers make the same weights", T, double, float) {
  double const tolerance = std::is_same_v<T, double> ? 1e-14 : 2e-6;
  for (auto const& each : support::optimizer_cases()) {
    CAPTURE(each.name);
    std::visit(
        [&](auto const& optimizer) {
          auto p = start<T>(optimizer, {support::optimizer_start.begin(), support::optimizer_start.end()});
          for (std::size_t step = 0; step < each.weights.size(); ++step) {
            auto const& g = support::optimizer_gradients[step];
            p.update({g.begin(), g.end()});
            for (std::size_t i = 0; i < p.values.size(); ++i)
              CHECK(std::abs(static_cast<double>(p.values[i]) - each.weights[step][i]) <= tolerance);
          }
        },
        each.optimizer);
  }
}

TEST_CASE("a constant gradient") {
  double const lr = 0.01, mu = 0.9, g = 0.75;
  auto plain = start<double>(pw::sgd{.rate = lr}, {2});
  auto moving = start<double>(pw::sgd{.rate = lr, .momentum = mu}, {2});
  auto adaptive = start<double>(pw::adam{.rate = lr, .epsilon = 0}, {2, -1});
  double powers = 0, power = mu;  // sum of (1 - mu^k) / (1 - mu)
  for (int n = 1; n <= 20; ++n, power *= mu) {
    plain.update({g});
    moving.update({g});
    adaptive.update({g, -1e-6 * g});
    powers += (1 - power) / (1 - mu);
    CHECK(plain.values[0] == doctest::Approx(2 - lr * g * n).epsilon(1e-13));
    CHECK(moving.values[0] == doctest::Approx(2 - lr * g * powers).epsilon(1e-13));
    // Corrected means of a constant are that constant: Adam goes by lr, whatever the gradient's size.
    CHECK(adaptive.values[0] == doctest::Approx(2 - lr * n).epsilon(1e-12));
    CHECK(adaptive.values[1] == doctest::Approx(-1 + lr * n).epsilon(1e-12));
  }
}

TEST_CASE("decay alone") {
  auto l2 = start<double>(pw::sgd{.rate = 0.1, .weight_decay = 0.5}, {3});
  auto decoupled = start<double>(pw::adamw(0.1, 0.5), {3});
  auto spared = start<double>(pw::adamw(0.1, 0.5), {3}, {.decay = false});
  auto spared_l2 = start<double>(pw::sgd{.rate = 0.1, .weight_decay = 0.5}, {3}, {.decay = false});
  for (int n = 1; n <= 10; ++n) {
    for (auto* each : {&decoupled, &spared}) each->update({0});
    l2.update({0});
    spared_l2.update({0});
    CHECK(l2.values[0] == doctest::Approx(3 * std::pow(0.95, n)).epsilon(1e-13));
    CHECK(decoupled.values[0] == doctest::Approx(3 * std::pow(0.95, n)).epsilon(1e-13));
    CHECK(spared.values[0] == 3);
    CHECK(spared_l2.values[0] == 3);
  }
}

TEST_CASE_TEMPLATE("what every optimizer promises", O, pw::sgd, pw::adam) {
  O optimizer{};
  optimizer.rate = 0.05;
  optimizer.weight_decay = 0.25;
  std::vector<double> const values{1, -2, 0.5}, gradient{0.25, 0.125, -3};

  auto frozen = start<double>(optimizer, values, {.frozen = true});
  auto apart = start<double>(optimizer, values), in_place = apart, scaled = apart;
  for (int n = 0; n < 5; ++n) {
    frozen.update(gradient);
    apart.update(gradient);
    in_place.update(gradient, 1, true);
    scaled.update({1, 0.5, -12}, 0.25);
    CHECK(frozen.values == values);
    CHECK(in_place.values == apart.values);
    CHECK(scaled.values == apart.values);  // powers of two: exact
  }
  CHECK(apart.values != values);
}

TEST_CASE("learning rates") {
  pw::learning_rate const constant = 0.5;
  CHECK(constant.at(1) == 0.5);
  CHECK(constant.at(1'000'000) == 0.5);
  using shape = pw::rate_shape;
  for (auto each : {shape::constant, shape::linear, shape::cosine}) {
    pw::learning_rate const rate(0.8, each, 4, 12, 0.2);
    CHECK(rate.at(1) == 0.2);
    CHECK(rate.at(2) == 0.4);
    CHECK(rate.at(4) == 0.8);
  }
  pw::learning_rate const line(0.8, shape::linear, 4, 12, 0.2), bow(0.8, shape::cosine, 4, 12, 0.2),
      level(0.8, shape::constant, 4, 12, 0.2);
  CHECK(line.at(8) == doctest::Approx(0.5));
  CHECK(bow.at(8) == doctest::Approx(0.5));
  CHECK(line.at(6) == doctest::Approx(0.65));
  CHECK(bow.at(6) == doctest::Approx(0.5 + 0.3 * std::sqrt(0.5)));
  for (std::int64_t late : {12, 13, 1000}) {
    CHECK(line.at(late) == doctest::Approx(0.2));
    CHECK(bow.at(late) == doctest::Approx(0.2));
    CHECK(level.at(late) == 0.8);
  }
}

TEST_CASE("which options need facts of all ranks before an update") {
  using options = pw::pipeline_options;
  CHECK(!options{}.needs_step_facts());
  CHECK(options{.clip = 1}.needs_step_facts());
  CHECK(!options{.clip = 1, .clip_over = pw::clip_scope::stage}.needs_step_facts());
  CHECK(options{.non_finite = pw::on_non_finite::skip}.needs_step_facts());
  CHECK(!options{.clip_over = pw::clip_scope::stage, .non_finite = pw::on_non_finite::stop}.needs_step_facts());
  CHECK(options{.scale = pw::loss_scale::per_token, .clip_over = pw::clip_scope::stage}.needs_step_facts());
}
