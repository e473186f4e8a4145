// SPDX-License-Identifier: Apache-2.0
// A stage that never returns: its rank cannot be freed, so the others return by their deadline, and the process ends with
// an error that says who waited where, and for whom. Each case is a process of its own.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/faulty_model.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;
using toys::fault;

namespace {

constexpr int ranks = 3, micro_batches = 4;

struct numbers {
  void input(int m, double& x) const { x = 1 + 0.25 * m; }
  void target(int, pw::nothing&) const {}
};

// Each case is this program again, with the one test that is else skipped.
constexpr char const* variable = "PIPEWRIGHT_TEST_HANG";

struct hang {
  std::string schedule;
  int rank;
  FILE* output = nullptr;
};

void start(hang& h) {
  std::array<char, 4096> path{};
  REQUIRE(readlink("/proc/self/exe", path.data(), path.size() - 1) > 0);
  auto const command = std::string(variable) + "='" + h.schedule + " " + std::to_string(h.rank) + "' '" + path.data() +
                       "' --no-skip --test-case=child 2>&1";
  h.output = popen(command.c_str(), "r");
  REQUIRE(h.output != nullptr);
}

}  // namespace

TEST_CASE("child" * doctest::skip()) {
  char const* const given = std::getenv(variable);
  if (given == nullptr) return;  // started by hand
  alarm(120);                    // if it does not end by itself, the test is to say which one it was
  std::string schedule;
  int rank = 0;
  std::istringstream(given) >> schedule >> rank;
  int const chunks = schedule == "interleaved" ? 2 : 1;
  fault const where{.what = fault::never_returns,
                    .at = rank == 1 && schedule != "forward-only" ? pw::kind::backward : pw::kind::forward,
                    .stage = rank,
                    .micro_batch = 1,
                    .step = 1,
                    .training = schedule != "forward-only"};
  auto const plan = pw::make_plan(schedule, {.ranks = ranks, .micro_batches = micro_batches, .chunks = chunks});
  toys::faulty_model const model{std::vector<double>(static_cast<std::size_t>(ranks * chunks), 0.5), where};
  pw::in_process::run(plan,
                      [&](pw::in_process::endpoint& here) {
                        auto training = pw::pipeline(plan, model, here, pw::sgd{});
                        for (int step = 0; step < 3; ++step) training.step(numbers{});
                        training.drain();
                      },
                      {.deadline = 2, .grace = 3});
}

TEST_CASE("a stage that never returns, under every schedule") {
  std::vector<hang> cases;
  for (char const* const schedule :
       {"sequential", "gpipe", "flush", "interleaved", "1f1b", "1f1b-vsync", "2bw", "forward-only"})
    for (int rank = 0; rank < ranks; ++rank) cases.push_back({schedule, rank});
  for (auto& each : cases) start(each);  // all at once: they only wait
  for (auto& each : cases) {
    CAPTURE(each.schedule);
    CAPTURE(each.rank);
    std::string text;
    for (int c; (c = std::fgetc(each.output)) != EOF;) text += static_cast<char>(c);
    int const status = pclose(each.output);
    CAPTURE(text);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 70);
    auto const says = [&](std::string const& part) { return text.find(part) != std::string::npos; };
    CHECK(says("pipewright: rank "));
    CHECK(says(", stage "));
    CHECK(says(", micro-batch "));
    CHECK(says(", action "));
    CHECK(says(": waited 2 s for transfer "));
    CHECK(says("rank " + std::to_string(each.rank) + " has not returned"));
  }
}
