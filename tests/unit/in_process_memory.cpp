// SPDX-License-Identifier: Apache-2.0
// Rings are reused: once the largest number of transfers has been under way, nothing is allocated any more.
// thread sanitizer: --full
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;
using pw::in_process::endpoint;

std::atomic<long> allocations = 0;
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (auto* const memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

/// Allocations of `rounds` rounds of transfers, of which up to `ahead` are under way at once, after as many to warm up.
long allocated(int rounds, int ahead, pw::in_process::options how) {
  long first = 0, last = 0;
  pw::in_process::run(
      2,
      [&](endpoint& here) {
        int const channel = here.open({0, 1, pw::traffic::activation});
        std::vector<std::vector<float>> slots(static_cast<std::size_t>(ahead), std::vector<float>(100));
        std::vector<pw::ticket> begun(slots.size());
        auto const some_rounds = [&] {
          for (int round = 0; round < rounds; ++round) {
            for (std::size_t i = 0; i < slots.size(); ++i)
              begun[i] = here.rank() == 0 ? here.send(channel, pw::message_of(slots[i]))
                                          : here.post(channel, pw::message_of(slots[i]));
            for (auto const each : begun) here.wait(each);
          }
        };
        // Either side may run ahead by the whole number, so each does; again, for a ring that was chained on in the
        // midst of the first time held but a part of it.
        for (int time = 0; time < 6; ++time) {
          int const leader = time % 2;
          if (here.rank() != leader) here.agree("go on");
          for (std::size_t i = 0; i < slots.size(); ++i)
            begun[i] = here.rank() == 0 ? here.send(channel, pw::message_of(slots[i]))
                                        : here.post(channel, pw::message_of(slots[i]));
          if (here.rank() == leader) here.agree("go on");
          for (auto const each : begun) here.wait(each);
        }
        some_rounds();
        here.agree("");  // an empty text needs no memory
        if (here.rank() == 0) first = allocations;
        here.agree("");
        some_rounds();
        here.agree("");
        if (here.rank() == 0) last = allocations;
        here.agree("");
      },
      std::move(how));
  return last - first;
}

TEST_CASE("the steady state allocates nothing") {
  long const before = allocations;
  ::operator delete(::operator new(1));
  long const one = allocations - before;
  CHECK(one == 1);  // they are counted
  using namespace pw::in_process;
  for (int const ahead : {1, 5, 16, 17, 100}) {
    CHECK(allocated(300, ahead, {}) == 0);
    CHECK(allocated(30, ahead, {.latency = 1e-5, .bandwidth = 1e9}) == 0);
    CHECK(allocated(30, ahead, {.mode = buffered, .latency = 1e-5, .bandwidth = 1e9}) == 0);
  }
}

TEST_CASE("rings keep what is needed, however far one end is ahead") {
  std::mt19937 random(5);
  for (int world = 0; world < 20; ++world) {
    pw::in_process::world two(2);
    endpoint source(two, 0), destination(two, 1);
    int const out = source.open({0, 1, pw::traffic::activation}),
              in = destination.open({0, 1, pw::traffic::activation});
    constexpr std::size_t total = 3000;
    std::vector<std::size_t> sent(total), received(total, total);
    std::iota(sent.begin(), sent.end(), std::size_t{0});
    std::vector<pw::ticket> sends, posts;
    while (sends.size() < total || posts.size() < total) {
      auto burst = random() % (1U << random() % 9);
      bool const by_source = random() % 2;
      for (auto& begun = by_source ? sends : posts; burst-- > 0 && begun.size() < total;) {
        auto const k = begun.size();
        begun.push_back(by_source ? source.send(out, pw::message_of(sent[k]))
                                  : destination.post(in, pw::message_of(received[k])));
      }
      auto const met = std::min(sends.size(), posts.size());
      for (auto k = met < 100 ? 0 : met - 100; k < met; ++k)
        CHECK((source.poll(sends[k]) && destination.poll(posts[k]) && received[k] == k));
      if (met < sends.size()) CHECK_FALSE(source.poll(sends[met]));
      if (met < posts.size()) CHECK_FALSE(destination.poll(posts[met]));
    }
    for (std::size_t k = 0; k < total; ++k)
      CHECK((received[k] == k && destination.poll(posts[k]) && source.poll(sends[k])));
  }
}
