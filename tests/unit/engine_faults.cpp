// SPDX-License-Identifier: Apache-2.0
// A stage that throws, a rank that stops, an abort from outside: every rank stops, under every schedule, and the error says
// where. Nothing here waits for a deadline: those are far beyond the time that a test has.
#include <array>
#include <atomic>
#include <exception>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <support/faulty_model.hpp>

#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;
using toys::fault;

namespace {

constexpr int ranks = 3, micro_batches = 4;
constexpr double beyond_the_test = 3600;

struct schedule {
  std::string_view name;
  int chunks = 1;
  bool streams = false;
};
std::vector<schedule> const training_schedules{{"sequential"},     {"gpipe"},         {"flush"},
                                               {"interleaved", 2}, {"1f1b", 1, true}, {"1f1b-vsync", 1, true},
                                               {"2bw", 1, true}};
std::vector<schedule> const schedules = [] {
  auto all = training_schedules;
  all.push_back({"forward-only"});
  return all;
}();

pw::dynamic_plan plan_of(schedule const& s, pw::needs wants = {}) {
  return pw::make_plan(s.name, {.ranks = ranks, .micro_batches = micro_batches, .chunks = s.chunks}, wants);
}
auto model_of(schedule const& s, fault where = {}) {
  return toys::faulty_model{std::vector<double>(static_cast<std::size_t>(ranks * s.chunks), 0.5), where};
}

struct numbers {
  void input(int m, double& x) const { x = 1 + 0.25 * m; }
  void target(int, pw::nothing&) const {}
};

// What in_process::run throws, and what made it throw.
std::string failure_of(pw::plan_view plan, std::function<void(pw::in_process::endpoint&)> const& f,
                       pw::in_process::transfer_mode mode) {
  try {
    pw::in_process::run(plan, f, {.mode = mode, .deadline = beyond_the_test});
  } catch (pw::error const& e) {
    std::string text = e.what();
    try {
      std::rethrow_if_nested(e);
    } catch (std::exception const& first) {
      text += std::string("; first of all ") + first.what();
    } catch (...) {}
    return text;
  }
  return "nothing was thrown";
}

void check_says(std::string const& text, std::string const& part) {
  CAPTURE(text);
  CAPTURE(part);
  CHECK(text.find(part) != std::string::npos);
}

// Trains for some steps with a fault somewhere.
template<class Set> std::string failure_of(pw::plan_view plan, Set const& set, auto optimizer, auto const& batch,
                                           pw::in_process::transfer_mode mode, bool evaluates = false) {
  return failure_of(
      plan,
      [&](pw::in_process::endpoint& here) {
        auto training = pw::pipeline(plan, set, here, optimizer);
        for (int step = 0; step < 3; ++step) training.step(batch);
        training.drain();
        if (evaluates) training.evaluate(batch);
      },
      mode);
}

std::string place(int rank, int stage, int micro_batch, std::string_view letter) {
  std::string const s = std::to_string(stage), m = std::to_string(micro_batch);
  return "rank " + std::to_string(rank) + ", stage " + s + ", micro-batch " + m + ", action " + s +
         std::string(letter) + m;
}

}  // namespace

TEST_CASE("a stage that throws: every rank stops, and the error names rank, stage, micro-batch and action") {
  for (auto const& s : schedules)
    for (int stage = 0; stage < ranks * s.chunks; ++stage)
      for (auto at : {pw::kind::forward, pw::kind::backward}) {
        if (at == pw::kind::backward && s.name == "forward-only") continue;
        for (auto mode : {pw::in_process::strict, pw::in_process::buffered}) {
          CAPTURE(s.name);
          CAPTURE(stage);
          fault const where{.what = fault::throws,
                            .at = at,
                            .stage = stage,
                            .micro_batch = 2,
                            .step = 1,
                            .training = s.name != "forward-only"};
          auto const plan = plan_of(s);
          std::string const why = failure_of(plan, model_of(s, where), pw::sgd{}, numbers{}, mode);
          check_says(
              why, place(stage % ranks, stage, s.streams ? micro_batches + 2 : 2, at == pw::kind::forward ? "F" : "B"));
          check_says(why, "the stage is out of order");
        }
      }
}

TEST_CASE("a stage that throws when it runs a second time") {
  for (auto const& s : training_schedules) {
    CAPTURE(s.name);
    auto const plan = plan_of(s, {.recompute = pw::recompute_mode::always});
    fault const where{.what = fault::throws, .at = pw::kind::recompute, .stage = 1, .micro_batch = 1, .step = 2};
    auto const set = pw::recompute_each(model_of(s, where));
    check_says(failure_of(plan, set, pw::sgd{}, numbers{}, pw::in_process::strict),
               place(1, 1, s.streams ? 2 * micro_batches + 1 : 1, "R"));
  }
}

TEST_CASE("a stage that throws a number") {
  for (auto const& s : training_schedules) {
    CAPTURE(s.name);
    fault const where{
        .what = fault::throws_a_number, .at = pw::kind::backward, .stage = 2, .micro_batch = 0, .step = 0};
    auto const plan = plan_of(s);
    check_says(failure_of(plan, model_of(s, where), pw::sgd{}, numbers{}, pw::in_process::strict), place(2, 2, 0, "B"));
  }
}

TEST_CASE("a stage that throws in an evaluation") {
  for (auto const& s : schedules) {
    CAPTURE(s.name);
    fault const where{.what = fault::throws, .at = pw::kind::forward, .stage = 1, .micro_batch = 3, .training = false};
    auto const plan = plan_of(s);
    check_says(failure_of(plan, model_of(s, where), pw::sgd{}, numbers{}, pw::in_process::strict, true),
               place(1, 1, 3, "F"));
  }
}

namespace {

struct refusing {  // updates the first weight once
  static constexpr std::size_t states = 0;
  template<class T> void update(pw::optimizer_step step, pw::parameter_options, std::span<T const> newest,
                                std::span<T const>, std::span<T> fresh, std::array<std::span<T>, 0>) const {
    if (step.number == 2) throw std::runtime_error("no second update");
    for (std::size_t i = 0; i < fresh.size(); ++i) fresh[i] = newest[i];
  }
};

struct without_third_input : numbers {
  void input(int m, double& x) const {
    if (m == 2) throw std::runtime_error("the data has ended");
    numbers::input(m, x);
  }
};

struct without_third_target : numbers {
  void target(int m, pw::nothing&) const {
    if (m == 2) throw std::runtime_error("the targets have ended");
  }
};

}  // namespace

TEST_CASE("an optimizer or a batch that throws") {
  for (auto const& s : schedules) {
    CAPTURE(s.name);
    auto const plan = plan_of(s);
    int const last = ranks * s.chunks - 1;
    if (s.name != "forward-only") {
      std::string const optimizer = failure_of(plan, model_of(s), refusing{}, numbers{}, pw::in_process::strict);
      check_says(optimizer, "no second update");
      check_says(optimizer, "UPDATE");
    }
    check_says(failure_of(plan, model_of(s), pw::sgd{}, without_third_input{}, pw::in_process::strict),
               place(0, 0, 2, "F") + ": the data has ended");
    check_says(failure_of(plan, model_of(s), pw::sgd{}, without_third_target{}, pw::in_process::strict),
               place(last % ranks, last, 2, "F") + ": the targets have ended");
  }
}

TEST_CASE("a rank that stops between two steps: the others say where they were waiting, or why it stopped") {
  // Under forward-only a rank may stop before another has looked around.
  for (auto const& s : training_schedules)
    for (int who = 0; who < ranks; ++who)
      for (int how = 0; how < 3; ++how) {
        CAPTURE(s.name);
        CAPTURE(who);
        CAPTURE(how);
        auto const plan = plan_of(s);
        std::vector<std::string> heard(ranks);
        std::string const why = failure_of(
            plan,
            [&](pw::in_process::endpoint& here) {
              auto training = pw::pipeline(plan, model_of(s), here, pw::sgd{});
              try {
                for (int step = 0; step < 4; ++step) {
                  training.step(numbers{});
                  if (here.rank() != who) continue;
                  if (how == 1) here.abort("this rank has had enough");
                  if (how > 0) return;  // how 2: without a word
                  throw std::runtime_error("this rank has had enough");
                }
              } catch (pw::error const& e) {
                heard[static_cast<std::size_t>(here.rank())] = e.what();
                throw;
              }
            },
            pw::in_process::strict);
        if (how < 2) check_says(why, "this rank has had enough");
        check_says(why, "rank " + std::to_string(who));
        // A stream that ends undrained says so itself, unless a peer's complaint comes first.
        if (how == 2 && why.find("call drain() first") == std::string::npos) check_says(why, ", action ");
        if (how == 2 && !s.streams) check_says(why, "has returned without it");
        for (int other = 0; other < ranks; ++other)
          if (other != who) {
            CAPTURE(other);
            std::string const& text = heard[static_cast<std::size_t>(other)];
            check_says(text, "rank " + std::to_string(other) + ", stage ");
            check_says(text, ", action ");
          }
      }
}

TEST_CASE("an abort from another thread stops all ranks") {
  for (auto const& s : schedules)
    for (int who = 0; who < ranks; ++who) {
      CAPTURE(s.name);
      CAPTURE(who);
      auto const plan = plan_of(s);
      pw::in_process::world all(ranks, {.deadline = beyond_the_test});
      std::vector<std::string> heard(ranks);
      std::vector<std::thread> threads;
      std::atomic<int> steps = 0;
      for (int rank = 0; rank < ranks; ++rank)
        threads.emplace_back([&, rank] {
          pw::in_process::endpoint here(all, rank);
          try {
            auto training = pw::pipeline(plan, model_of(s), here, pw::sgd{.rate = 0});
            for (;; ++steps) training.step(numbers{});
          } catch (pw::error const& e) {
            heard[static_cast<std::size_t>(rank)] = e.what();
          }
        });
      while (steps < 20) std::this_thread::yield();
      pw::in_process::endpoint(all, who).abort("the user wants no more");
      for (auto& each : threads) each.join();
      for (auto const& text : heard) check_says(text, "the user wants no more");
    }
}
