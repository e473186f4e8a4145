// SPDX-License-Identifier: Apache-2.0
// run(): what becomes of its threads, and of what they throw.
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <exception>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <doctest/doctest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;
using pw::in_process::endpoint;
using pw::in_process::run;

std::string error_of(auto f) {
  try {
    f();
  } catch (pw::error const& fault) {
    return fault.what();
  }
  return {};
}

TEST_CASE("each rank has a thread of its own") {
  std::array<std::thread::id, 8> ids;
  run(8, [&](endpoint& here) {
    ids[static_cast<std::size_t>(here.rank())] = std::this_thread::get_id();
    here.agree("all threads are there at once");
  });
  for (std::size_t i = 0; i < ids.size(); ++i)
    for (std::size_t j = 0; j <= i; ++j) CHECK((ids[i] == ids[j]) == (i == j));
}

double processor_seconds(clockid_t whose) {
  timespec t{};
  clock_gettime(whose, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

TEST_CASE("eight ranks on two cores: who waits leaves them to who works") {
  cpu_set_t all, two;
  REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
  CPU_ZERO(&two);
  for (int core = 0; core < CPU_SETSIZE && CPU_COUNT(&two) < 2; ++core)
    if (CPU_ISSET(core, &all)) CPU_SET(core, &two);
  REQUIRE(sched_setaffinity(0, sizeof two, &two) == 0);
  constexpr int ranks = 8, rounds = 3;
  constexpr double work = 0.02;  // seconds of processor time, each rank's in its turn
  double const before = processor_seconds(CLOCK_PROCESS_CPUTIME_ID);
  run(ranks, [&](endpoint& here) {
    int const next = (here.rank() + 1) % ranks, last = (here.rank() + ranks - 1) % ranks;
    int const in = here.open({last, here.rank(), pw::traffic::activation}),
              out = here.open({here.rank(), next, pw::traffic::activation});
    int turn = 0;
    for (int round = 0; round < rounds; ++round) {
      if (here.rank() > 0 || round > 0) here.wait(here.post(in, pw::message_of(turn)));
      double const begun = processor_seconds(CLOCK_THREAD_CPUTIME_ID);
      while (processor_seconds(CLOCK_THREAD_CPUTIME_ID) < begun + work) {}
      ++turn;
      if (here.rank() + 1 < ranks || round + 1 < rounds) here.wait(here.send(out, pw::message_of(turn)));
    }
    if (here.rank() + 1 == ranks) CHECK(turn == ranks * rounds);
  });
  double const used = processor_seconds(CLOCK_PROCESS_CPUTIME_ID) - before;
  CHECK(used < 1.25 * ranks * rounds * work);  // a waiter that spun would take as much again
  REQUIRE(sched_setaffinity(0, sizeof all, &all) == 0);
}

struct view_of_plan {
  struct {
    int ranks;
  } facts;
};
struct plan {
  view_of_plan view() const { return {{3}}; }
};
TEST_CASE("a plan says how many ranks there are") {
  std::atomic<int> count = 0;
  run(plan{}, [&](endpoint& here) { count += here.size(); });
  CHECK(count == 9);
  run(view_of_plan{{2}}, [&](endpoint& here) { count += here.size(); });
  CHECK(count == 13);
}

TEST_CASE("impossible worlds are refused") {
  for (int const ranks : {0, -1})
    CHECK(error_of([&] { run(ranks, [](endpoint&) {}); }) ==
          "an in-process world needs at least one rank, not " + std::to_string(ranks));
  pw::in_process::world two(2);
  CHECK(error_of([&] { endpoint(two, 2); }) == "rank 2 is not one of the 2 in-process ranks");
  CHECK_FALSE(error_of([&] { endpoint(two, -1); }).empty());
  auto const unknown = std::numeric_limits<double>::quiet_NaN();
  for (auto const bad : {pw::in_process::link{.latency = -1}, {.bandwidth = 0}, {.latency = unknown}}) {
    pw::in_process::world linked(2, {.link_between = [&](int, int) { return bad; }});
    endpoint zero(linked, 0);
    CHECK(error_of([&] { zero.open({0, 1, pw::traffic::step}); }).starts_with("the link from rank 0 to rank 1"));
  }
}

TEST_CASE("misuse is told on the spot and stops nobody") {
  run(2, [](endpoint& here) {
    auto const channel = here.open({0, 1, pw::traffic::gradient});
    int slot = 0;
    if (here.rank() == 0)
      CHECK(error_of([&] { here.post(channel, pw::message_of(slot)); }) ==
            "rank 0 cannot post on the gradient channel from rank 0 to rank 1; its source sends");
    else
      CHECK(error_of([&] { here.send(channel, pw::message_of(slot)); }) ==
            "rank 1 cannot send on the gradient channel from rank 0 to rank 1; its destination posts");
    here.wait(here.rank() == 0 ? here.send(channel, pw::message_of(slot)) : here.post(channel, pw::message_of(slot)));
  });
}

struct special : std::runtime_error {
  using runtime_error::runtime_error;
};

TEST_CASE("the first failure is what is thrown, with its rank, when all have ended") {
  std::atomic<int> ended = 0;
  struct count_at_end {
    std::atomic<int>& count;
    ~count_at_end() { ++count; }
  };
  try {
    run(4, [&](endpoint& here) {
      count_at_end const last{ended};
      int slot = 0;
      if (here.rank() == 2) {
        here.agree("start");
        throw special("out of cheese");
      }
      here.agree("start");
      auto const next = (here.rank() + 1) % 4;
      here.wait(here.send(here.open({here.rank(), next, pw::traffic::step}), pw::message_of(slot)));
    });
    FAIL("nothing was thrown");
  } catch (pw::error const& fault) {
    CHECK(fault.what() == std::string("rank 2: out of cheese"));
    CHECK(ended == 4);
    CHECK_THROWS_WITH_AS(std::rethrow_if_nested(fault), "out of cheese", special);  // what it was is kept
  }
}

TEST_CASE("a rank that says its name is not named twice") {
  auto const thrown_by_rank_1 = [](char const* text) {
    return error_of([&] {
      run(2, [&](endpoint& here) {
        if (here.rank() == 1) throw pw::error(text);
      });
    });
  };
  CHECK(thrown_by_rank_1("rank 1, stage 3: no") == "rank 1, stage 3: no");
  CHECK(thrown_by_rank_1("rank 1") == "rank 1");
  CHECK(thrown_by_rank_1("rank 19 did it") == "rank 1: rank 19 did it");
}

TEST_CASE("what is no std::exception, and an abort without an exception, are failures too") {
  CHECK(error_of([] { run(2, [](endpoint&) { throw 5; }); }).find("no std::exception") != std::string::npos);
  CHECK(error_of([] {
          run(2, [](endpoint& here) {
            if (here.rank() == 1) here.abort("I would rather not");
          });
        }) == "rank 1: I would rather not");
  // An engine aborts with more to say than the exception that it lets go on.
  CHECK(error_of([] {
          run(2, [](endpoint& here) {
            if (here.rank() == 0) return;
            here.abort("rank 1, stage 1, micro-batch 0: broken");
            throw special("broken");
          });
        }) == "rank 1, stage 1, micro-batch 0: broken");
}

TEST_CASE("a rank that waits for one who has returned is told so") {
  for (bool const polls : {false, true})
    CHECK(error_of([&] {
            run(3,
                [&](endpoint& here) {
                  if (here.rank() != 1) return;
                  int slot = 0;
                  auto const begun = here.post(here.open({2, 1, pw::traffic::activation}), pw::message_of(slot));
                  if (polls)
                    while (!here.poll(begun)) {}
                  else here.wait(begun);
                },
                {.deadline = 0});
          }) ==
          "rank 1 needs transfer 0 of the activation channel from rank 2 to rank 1, but rank 2 has returned "
          "without it");
  CHECK(error_of([] {
          run(3,
              [](endpoint& here) {
                if (here.rank() != 1) here.agree("x");
              },
              {.deadline = 0});
        }).ends_with("needs all ranks to agree on what to run, but rank 1 returned without it"));
}

TEST_CASE("a value that its link holds longer than the deadline") {
  CHECK(error_of([] {
          run(2,
              [](endpoint& here) {
                int slot = 0;
                int const channel = here.open({0, 1, pw::traffic::activation});
                auto const value = pw::message_of(slot);
                here.wait(here.rank() ? here.post(channel, value) : here.send(channel, value));
              },
              {.latency = 1000, .deadline = 0.1, .grace = 60});
        }) ==
        "rank 1 waited 0.1 s for transfer 0 of the activation channel from rank 0 to rank 1, which its slow link "
        "still holds; set a longer deadline");
}

TEST_CASE("after an abort no slot is touched") {
  // Address and thread sanitizers would see a sender that writes into a slot which its rank has given up.
  for (int round = 0; round < 200; ++round)
    CHECK(error_of([&] {
            run(2, [&](endpoint& here) {
              int const channel = here.open({0, 1, pw::traffic::activation});
              if (here.rank() == 0) {
                std::string value(100, 'x');
                for (;;) here.wait(here.send(channel, pw::message_of(value)));
              }
              for (int i = 0;; ++i) {
                auto slot = std::make_unique<std::string>("old");
                auto const begun = here.post(channel, pw::message_of(*slot));
                if (i == round % 10) here.abort("giving up");
                else here.wait(begun);
              }
            });
          }) == "rank 1: giving up");
}

// A rank that never returns: the program ends. Each child is this program again, with one test that is else skipped.

void never_return() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}
TEST_CASE("child: stuck" * doctest::skip()) {
  run(3,
      [](endpoint& here) {
        int slot = 0;
        if (here.rank() == 2) never_return();
        if (here.rank() == 1) here.wait(here.post(here.open({2, 1, pw::traffic::activation}), pw::message_of(slot)));
        else here.agree("never");
      },
      {.deadline = 0.3});
}
TEST_CASE("child: stuck while another throws" * doctest::skip()) {
  run(2,
      [](endpoint& here) {
        if (here.rank() == 0) throw special("broken");
        never_return();
      },
      {.deadline = 0, .grace = 0.1});
}
TEST_CASE("child: own ending" * doctest::skip()) {
  run(2,
      [](endpoint& here) {
        if (here.rank() == 0) throw special("broken");
        never_return();
      },
      {.deadline = 0.1, .on_hang = [](std::string_view text) {
         std::printf("<%.*s>\n", static_cast<int>(text.size()), text.data());
         std::fflush(stdout);
         std::_Exit(3);
       }});
}

std::pair<int, std::string> child(std::string const& name) {
  std::array<char, 4096> path{};
  REQUIRE(readlink("/proc/self/exe", path.data(), path.size() - 1) > 0);
  auto const command = "'" + std::string(path.data()) + "' --no-skip --test-case='child: " + name + "' 2>&1";
  auto* const out = popen(command.c_str(), "r");
  REQUIRE(out != nullptr);
  std::string text;
  for (int c; (c = std::fgetc(out)) != EOF;) text += static_cast<char>(c);
  auto const status = pclose(out);
  REQUIRE(WIFEXITED(status));
  return {WEXITSTATUS(status), text};
}

TEST_CASE("a rank that never returns ends the program with the located error") {
  auto const [code, text] = child("stuck");
  CHECK(code == 70);
  // Either waiter's deadline may be the first.
  auto const says = [](std::string const& all, std::string_view part) { return all.find(part) != std::string::npos; };
  CHECK_MESSAGE((says(text, "pipewright: rank 0 waited") || says(text, "pipewright: rank 1 waited")), text);
  CHECK_MESSAGE(says(text, "rank 2 has not returned"), text);

  auto const [second_code, second_text] = child("stuck while another throws");
  CHECK(second_code == 70);
  CHECK_MESSAGE(says(second_text, "pipewright: rank 0: broken; since then the function of rank 1 has not returned"),
                second_text);

  auto const [own_code, own_text] = child("own ending");
  CHECK(own_code == 3);
  CHECK_MESSAGE(says(own_text, "<rank 0: broken;"), own_text);
}
