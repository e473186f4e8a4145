// SPDX-License-Identifier: Apache-2.0
// A training that is taken out of one pipeline and put into another goes on as if nothing had happened: the oracle's bits.
// sanitizers: --full
#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <support/engine_matrix.hpp>

namespace pw = pipewright;
using pw::weight_rule;

namespace {

/// All of a training between steps, by parameter.
struct saved {
  struct parameter {
    std::vector<double> values;
    std::vector<std::vector<double>> states;
    std::int64_t updates = 0;
  };
  std::map<std::string, parameter, std::less<>> parameters;
  std::int64_t steps = 0;
};

saved taken_from(auto& training) {
  saved s{.parameters = {}, .steps = training.steps()};
  training.template for_each_state<double>(
      [&](int stage, std::string_view name, std::span<double> values, pw::parameter_options, auto const& states) {
        auto& p = s.parameters[std::string(name)];
        p = {{values.begin(), values.end()}, {}, training.updates(stage)};
        for (std::span<double> const each : states) p.states.emplace_back(each.begin(), each.end());
      });
  return s;
}

void put_into(auto& training, saved const& s) {
  std::map<int, std::int64_t> updates;
  training.template for_each_state<double>(
      [&](int stage, std::string_view name, std::span<double> values, pw::parameter_options, auto const& states) {
        auto const& p = s.parameters.find(name)->second;
        std::ranges::copy(p.values, values.begin());
        for (std::size_t i = 0; i < states.size(); ++i) std::ranges::copy(p.states[i], states[i].begin());
        updates[stage] = p.updates;
      });
  training.resume(s.steps, [&](int stage) { return updates.at(stage); });
}

struct way {
  std::string_view schedule;
  int ranks;
  int chunks = 1;
};

struct part {
  std::vector<double> losses;
  saved end;
};

/// `steps` steps from where `before` ended, if it did.
part train(way const& w, support::mixture const& m, int steps, saved const* before) {
  int const stages = w.ranks * w.chunks;
  auto const plan = pw::make_plan(w.schedule, {.ranks = w.ranks, .micro_batches = m.micro_batches, .chunks = w.chunks},
                                  m.wants(stages));
  part all;
  std::mutex one_at_a_time;
  pw::in_process::run(plan.view(), [&](pw::in_process::endpoint& here) {
    auto training = pw::pipeline(plan.view(), toys::toy_stages<double>(stages), here,
                                 pw::adamw({0.05, pw::rate_shape::cosine, 2, 60}, 0.1), m.options);
    if (before) put_into(training, *before);
    std::vector<double> losses;
    for (int step = 0; step < steps; ++step) {
      auto const told = training.step(toys::toy_batch{static_cast<int>(training.steps())});
      CHECK(told.step + 1 == training.steps());
      if (told.has_loss) losses.push_back(told.loss);
    }
    training.drain();
    std::lock_guard const lock(one_at_a_time);
    if (!losses.empty()) all.losses = losses;
    auto mine = taken_from(training);
    all.end.steps = mine.steps;
    all.end.parameters.merge(mine.parameters);
  });
  return all;
}

/// Three steps one way and four another, against seven with a drain after the third.
void check(weight_rule rule, way const& first, way const& second, support::mixture const& m) {
  CAPTURE(first.schedule);
  CAPTURE(first.ranks);
  CAPTURE(second.schedule);
  CAPTURE(second.ranks);
  bool const synchronous = rule == weight_rule::synchronous;
  int const stages = synchronous ? 1 : first.ranks;
  auto const expected = support::train_serially(
      rule, {.ranks = stages, .micro_batches = m.micro_batches, .chunks = 1}, toys::toy_stages<double>(stages),
      support::toy_batches, pw::adamw({0.05, pw::rate_shape::cosine, 2, 60}, 0.1),
      {.calls = m.options.accumulate == 2 ? "ssssdssss" : "sssdssss", .options = m.options}, m.wants(stages));
  auto const before = train(first, m, m.options.accumulate == 2 ? 4 : 3, nullptr);
  auto const after = train(second, m, 4, &before.end);
  auto losses = before.losses;
  losses.insert(losses.end(), after.losses.begin(), after.losses.end());
  CHECK(losses == expected.losses);
  REQUIRE(after.end.parameters.size() == expected.weights.size());
  for (auto const& [name, values] : expected.weights) {
    CAPTURE(name);
    CHECK(after.end.parameters.find(name)->second.values == values);
  }
}

}  // namespace

TEST_CASE("synchronous schedules go on with any number of ranks") {
  way const ways[]{{"sequential", 1}, {"gpipe", 4}, {"flush", 2}, {"interleaved", 2, 2}, {"flush", 4}, {"gpipe", 1}};
  for (int const accumulate : {1, 2})
    for (bool const tied : {false, true}) {
      support::mixture m{.options = {.seed = 5, .clip = 0.25, .accumulate = accumulate}, .tied = tied};
      if (tied) m.options.tied = {"table", "head"};
      for (std::size_t i = 0; i < std::size(ways); ++i)
        check(weight_rule::synchronous, ways[i], ways[(i + 1) % std::size(ways)], m);
    }
}

TEST_CASE("asynchronous schedules go on, 2BW with any number of ranks") {
  support::mixture const m{.options = {.seed = 5}, .micro_batches = 4};
  for (int const ranks : {1, 2, 4}) {
    check(weight_rule::stashing, {"1f1b", ranks}, {"1f1b", ranks}, m);
    check(weight_rule::vertical_sync, {"1f1b-vsync", ranks}, {"1f1b-vsync", ranks}, m);
    for (int const later : {1, 2, 4}) check(weight_rule::double_buffered, {"2bw", ranks}, {"2bw", later}, m);
  }
}

TEST_CASE("what cannot be saved or resumed is refused") {
  auto const plan = pw::make_plan("2bw", {.ranks = 1, .micro_batches = 2});
  pw::in_process::run(plan.view(), [&](pw::in_process::endpoint& here) {
    auto training = pw::pipeline(plan.view(), toys::toy_stages<double>(1), here, pw::sgd{.rate = 0.1});
    training.step(toys::toy_batch{0});
    CHECK_THROWS_WITH_AS(taken_from(training), doctest::Contains("call drain() before saving"), pw::error);
    training.drain();
    CHECK(taken_from(training).steps == 1);
    CHECK_THROWS_WITH_AS(training.resume(-1, [](int) { return 0; }), doctest::Contains("after -1 steps"), pw::error);
  });
  auto const flush = pw::make_plan("flush", {.ranks = 1, .micro_batches = 2});
  pw::in_process::run(flush.view(), [&](pw::in_process::endpoint& here) {
    auto training =
        pw::pipeline(flush.view(), toys::toy_stages<double>(1), here, pw::sgd{.rate = 0.1}, {.accumulate = 2});
    CHECK_THROWS_WITH_AS(training.resume(3, [](int) { return 1; }), doctest::Contains("an update every 2"), pw::error);
  });
}
