// SPDX-License-Identifier: Apache-2.0
// Links that take time. Only what must not be early is checked against a clock.
#include <array>
#include <chrono>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;
using pw::in_process::endpoint;
using clock_type = std::chrono::steady_clock;
using std::chrono::milliseconds;

auto since(clock_type::time_point start) { return clock_type::now() - start; }

/// Two ranks, driven by this thread.
struct pair_of_ranks {
  pw::in_process::world both;
  endpoint source{both, 0}, destination{both, 1};
  int out = source.open({0, 1, pw::traffic::activation}), in = destination.open({0, 1, pw::traffic::activation});
  std::array<int, 3> sent{1, 2, 3}, received{};

  explicit pair_of_ranks(pw::in_process::options how = {}) : both(2, std::move(how)) {}
  pw::ticket send(std::size_t i) { return source.send(out, pw::message_of(sent[i])); }
  pw::ticket post(std::size_t i) { return destination.post(in, pw::message_of(received[i])); }
};

TEST_CASE("without a link a transfer is complete as soon as both ends are there") {
  for (auto const mode : {pw::in_process::strict, pw::in_process::buffered}) {
    pair_of_ranks ranks({.mode = mode});
    auto const sent = ranks.send(0);
    CHECK_FALSE(ranks.source.poll(sent));
    auto const posted = ranks.post(0);
    CHECK(ranks.source.poll(sent));
    CHECK(ranks.destination.poll(posted));
    CHECK(ranks.received[0] == 1);
    auto const again = ranks.post(1);
    CHECK_FALSE(ranks.destination.poll(again));
    auto const answer = ranks.send(1);
    CHECK(ranks.source.poll(answer));
    CHECK(ranks.destination.poll(again));
    CHECK(ranks.received[1] == 2);
  }
}

TEST_CASE("latency holds back the receiver, not the sender") {
  for (auto const mode : {pw::in_process::strict, pw::in_process::buffered}) {
    pair_of_ranks ranks({.mode = mode, .latency = 3600});
    auto const sent = ranks.send(0), posted = ranks.post(0);
    CHECK(ranks.source.poll(sent));
    ranks.source.wait(sent);
    CHECK_FALSE(ranks.destination.poll(posted));
  }
}

TEST_CASE("nothing arrives early") {
  pair_of_ranks ranks({.latency = 0.02});
  for (std::size_t i = 0; i < 3; ++i) {
    auto const start = clock_type::now();
    auto const posted = ranks.post(i);
    ranks.send(i);
    ranks.destination.wait(posted);
    CHECK(since(start) >= milliseconds(20));
    CHECK(ranks.destination.poll(posted));
    CHECK(ranks.received[i] == static_cast<int>(i) + 1);
  }
}

TEST_CASE("a strict transfer sets out when both ends are there, a buffered one when it is sent") {
  pair_of_ranks strict({.mode = pw::in_process::strict, .latency = 0.05});
  pair_of_ranks buffered({.mode = pw::in_process::buffered, .latency = 0.05});
  strict.send(0), buffered.send(0);
  std::this_thread::sleep_for(milliseconds(60));
  auto const start = clock_type::now();
  auto const here = buffered.post(0), there = strict.post(0);
  CHECK(buffered.destination.poll(here));
  strict.destination.wait(there);
  CHECK(since(start) >= milliseconds(50));
  // A post that waits for the send makes no difference between them.
  auto const later = buffered.post(1);
  auto const sent = clock_type::now();
  buffered.send(1);
  buffered.destination.wait(later);
  CHECK(since(sent) >= milliseconds(50));
}

TEST_CASE("a link with a bandwidth carries one transfer after the other, whatever their channels") {
  for (auto const mode : {pw::in_process::strict, pw::in_process::buffered}) {
    auto const link_between = [](int source, int) {
      return source == 0 ? pw::in_process::link{.latency = 0.005, .bandwidth = 1e6} : pw::in_process::link{};
    };
    pw::in_process::world three(3, {.mode = mode, .link_between = link_between});
    endpoint zero(three, 0), one(three, 1), two(three, 2);
    std::array<std::vector<char>, 4> sent, received;
    for (auto& each : sent) each.resize(10'000);  // 10 ms each
    auto const start = clock_type::now();
    std::array<pw::ticket, 4> tickets;
    for (std::size_t i = 0; i < 4; ++i) {
      pw::channel_key const key{0, 1, i % 2 ? pw::traffic::activation : pw::traffic::gradient};
      tickets[i] = one.post(one.open(key), pw::message_of(received[i]));
      zero.send(zero.open(key), pw::message_of(sent[i]));
    }
    // Another edge is not held up, nor is the way back.
    int slot = 5, other = 0, back = 6, got = 0;
    auto const unrelated = two.post(two.open({1, 2, pw::traffic::step}), pw::message_of(other));
    one.send(one.open({1, 2, pw::traffic::step}), pw::message_of(slot));
    two.wait(unrelated);
    auto const returned = zero.post(zero.open({1, 0, pw::traffic::step}), pw::message_of(got));
    one.send(one.open({1, 0, pw::traffic::step}), pw::message_of(back));
    zero.wait(returned);
    CHECK(other == 5);
    CHECK(got == 6);
    for (std::size_t i = 0; i < 4; ++i) {
      one.wait(tickets[i]);
      CHECK(since(start) >= milliseconds(10 * (static_cast<int>(i) + 1) + 5));
      CHECK(received[i].size() == 10'000);
    }
  }
}

TEST_CASE("an abort ends the wait for a link") {
  bool told = false;
  try {
    pw::in_process::run(2,
                        [&](endpoint& here) {
                          int const channel = here.open({0, 1, pw::traffic::activation});
                          int slot = 0;
                          if (here.rank() == 0) {
                            here.wait(here.send(channel, pw::message_of(slot)));
                            here.abort("enough");
                          } else {
                            try {
                              here.wait(here.post(channel, pw::message_of(slot)));
                            } catch (pw::error const& fault) {
                              told = std::string_view(fault.what()) == "rank 0: enough";
                            }
                          }
                        },
                        {.latency = 3600, .deadline = 0});
    FAIL("nothing was thrown");
  } catch (pw::error const& fault) {
    CHECK(fault.what() == std::string("rank 0: enough"));
  }
  CHECK(told);
}
