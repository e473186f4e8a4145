// SPDX-License-Identifier: Apache-2.0
// An observer hears of every instruction of its rank once, before and after; one thread may drive several ranks.
#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <support/scalar_model.hpp>

#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/steady.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;

namespace {

struct numbers {
  void input(int m, double& x) const { x = 1 + 0.25 * m; }
  void target(int, pw::nothing&) const {}
};

// Instructions by what they are, and how often.
using tally = std::map<std::pair<std::string, int>, int>;
std::pair<std::string, int> key_of(pw::instruction i) {
  return {std::string(pw::action_text(i.what).view()), i.version};
}

struct listener {
  int rank = 0;
  tally heard{};
  bool inside = false, orderly = true;
  pw::instruction now{};

  void before(pw::event e) {
    orderly = orderly && !inside && e.rank == rank;
    inside = true;
    now = e.instruction;
  }
  void after(pw::event e) {
    orderly = orderly && inside && e.instruction == now && e.rank == rank;
    inside = false;
    ++heard[key_of(e.instruction)];
  }
};
static_assert(pw::observer<listener>);

// What a rank is to run in that many steps and a drain.
tally expected(pw::plan_view plan, int rank, int steps) {
  tally all;
  if (plan.is_stream()) {
    auto const program = pw::first_batches(plan, steps);
    for (auto const i : program.view()[rank]) ++all[key_of(i)];
  } else {
    for (auto const i : plan.programs[rank]) all[key_of(i)] += steps;
  }
  return all;
}

}  // namespace

TEST_CASE("every instruction is heard of once, before and after") {
  for (std::string_view schedule : {"sequential", "gpipe", "flush", "interleaved", "1f1b", "1f1b-vsync", "2bw"})
    for (int ranks = 1; ranks <= 4; ++ranks)
      for (bool clips : {false, true}) {
        if (clips && schedule == "1f1b") continue;
        CAPTURE(schedule);
        CAPTURE(ranks);
        int const chunks = schedule == "interleaved" ? 2 : 1, steps = 5;
        auto const plan =
            pw::make_plan(schedule, {.ranks = ranks, .micro_batches = 3, .chunks = chunks}, {.step_facts = clips});
        toys::scalar_model const model{std::vector<double>(static_cast<std::size_t>(ranks * chunks), 0.5)};
        std::vector<listener> listeners(static_cast<std::size_t>(ranks));
        pw::in_process::run(plan, [&](pw::in_process::endpoint& here) {
          listener& mine = listeners[static_cast<std::size_t>(here.rank())];
          mine.rank = here.rank();
          auto training = pw::pipeline(plan, model, here, pw::sgd{}, {.clip = clips ? 1.0 : 0.0}, mine);
          for (int step = 0; step < steps; ++step) training.step(numbers{});
          training.drain();
        });
        for (auto const& each : listeners) {
          CHECK(each.orderly);
          CHECK(each.heard == expected(plan.view(), each.rank, steps));
        }
      }
}

TEST_CASE("one thread drives all ranks, and nothing changes") {
  for (std::string_view schedule : {"sequential", "gpipe", "flush", "interleaved", "1f1b", "1f1b-vsync", "2bw"}) {
    CAPTURE(schedule);
    int const ranks = 3, chunks = schedule == "interleaved" ? 2 : 1;
    auto const plan = pw::make_plan(schedule, {.ranks = ranks, .micro_batches = 4, .chunks = chunks});
    toys::scalar_model const model{std::vector<double>(static_cast<std::size_t>(ranks * chunks), 0.75)};
    std::vector<double> together, apart;

    pw::in_process::run(plan, [&](pw::in_process::endpoint& here) {
      auto training = pw::pipeline(plan, model, here, pw::sgd{.rate = 0.25});
      for (int step = 0; step < 4; ++step)
        if (auto const r = training.step(numbers{}); r.has_loss) apart.push_back(r.loss);
      training.drain();
    });

    // The constructor waits for all ranks to agree, so it takes a thread each; the run takes one.
    pw::in_process::world all(ranks, {.deadline = 60});
    std::vector<pw::in_process::endpoint> ends;
    for (int rank = 0; rank < ranks; ++rank) ends.emplace_back(all, rank);
    using training_type = decltype(pw::pipeline(plan.view(), model, ends[0], pw::sgd{}));
    std::vector<std::unique_ptr<training_type>> training(ranks);
    std::vector<std::thread> makers;
    for (int rank = 0; rank < ranks; ++rank)
      makers.emplace_back([&, rank] {
        auto const at = static_cast<std::size_t>(rank);
        training[at] = std::make_unique<training_type>(plan.view(), model, ends[at], pw::sgd{.rate = 0.25},
                                                       pw::pipeline_options{}, pw::detail::nobody);
      });
    for (auto& each : makers) each.join();
    numbers batch;
    auto const drive = [&] {
      for (bool done = false; !done;) {
        done = true;
        bool ran = false;
        for (auto& each : training) {
          auto const p = each->advance();
          ran = ran || p == pw::progress::ran;
          done = done && p == pw::progress::done;
        }
        REQUIRE((ran || done));  // else nobody could go on
      }
    };
    for (int step = 0; step < 4; ++step) {
      for (auto& each : training) each->begin(batch);
      drive();
      together.push_back(training.back()->result().loss);
    }
    CHECK(together == apart);
    if (plan.view().is_stream()) {
      std::vector<std::thread> drains;
      for (auto& each : training) drains.emplace_back([&] { each->drain(); });
      for (auto& each : drains) each.join();
    }
  }
}

namespace {

/// An endpoint that asks whether its rank computes, and what it heard of it.
struct asking {
  pw::in_process::endpoint& over;
  bool is_computing = true, waits_idle = true;

  int rank() const { return over.rank(); }
  int size() const { return over.size(); }
  int open(pw::channel_key key) { return over.open(key); }
  pw::ticket post(int channel, pw::message m) { return noted(), over.post(channel, m); }
  pw::ticket send(int channel, pw::message m) { return noted(), over.send(channel, m); }
  bool poll(pw::ticket k) { return over.poll(k); }
  void wait(pw::ticket k) { noted(), over.wait(k); }
  void progress() { over.progress(); }
  void agree(std::string_view text) { over.agree(text); }
  void abort(std::string_view text) noexcept { over.abort(text); }
  void computing(bool begins) noexcept { is_computing = begins; }

 private:
  void noted() { waits_idle = waits_idle && !is_computing; }
};
static_assert(pw::transport<asking>);

/// Plain descent that notes under what it runs.
struct noting_descent {
  bool const* is_computing;
  bool* all;
  static constexpr std::size_t states = 0;
  template<class T>
  void update(pw::optimizer_step, pw::parameter_options, std::span<T const> newest, std::span<T const> gradient,
              std::span<T> fresh, std::array<std::span<T>, 0>) const {
    *all = *all && *is_computing;
    for (std::size_t i = 0; i < newest.size(); ++i) fresh[i] = newest[i] - static_cast<T>(0.1) * gradient[i];
  }
};

}  // namespace

TEST_CASE("a transport that asks hears when its rank computes") {
  auto const plan = pw::make_plan("flush", {.ranks = 2, .micro_batches = 4});
  pw::in_process::run(2, [&](pw::in_process::endpoint& over) {
    asking here{over};
    bool computes_in_actions = true, computes_in_updates = true;
    struct batch {
      bool const& is_computing;
      bool& all;
      void input(int, double& x) const { all = all && is_computing, x = 1; }
      void target(int, pw::nothing&) const { all = all && is_computing; }
    };
    pw::plan_view const view = plan.view();
    auto training =
        pw::pipeline(view, toys::scalar_model{{1, 2}}, here, noting_descent{&here.is_computing, &computes_in_updates});
    for (int step = 0; step < 2; ++step) {
      training.step(batch{here.is_computing, computes_in_actions});
      CHECK(here.is_computing);  // between steps the caller may
    }
    CHECK(computes_in_actions);
    CHECK(computes_in_updates);
    CHECK(here.waits_idle);
  });
}
