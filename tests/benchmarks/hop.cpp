// SPDX-License-Identifier: Apache-2.0
// What it costs to hand a value from one rank's thread to another's: half of the median round trip of a vector, next to
// bare hand-written loops in the same run. Two threads pinned to two cores; then to one core, where nobody may spin.
//   hop [--json]
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;
using clock_type = std::chrono::steady_clock;

namespace {

constexpr int warm_up = 1000;

void pin(std::vector<int> const& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int const core : cores) CPU_SET(core, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

std::vector<int> usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  return cores;
}

/// Microseconds of one hop: half of the median round trip, the first ones left out.
double median_hop(int round_trips, auto&& round_trip) {
  std::vector<double> hops;
  for (int i = 0; i < warm_up; ++i) round_trip();
  for (int i = 0; i < round_trips; ++i) {
    auto const start = clock_type::now();
    round_trip();
    hops.push_back(std::chrono::duration<double, std::micro>(clock_type::now() - start).count() / 2);
  }
  auto const middle = hops.begin() + round_trips / 2;
  std::ranges::nth_element(hops, middle);
  return *middle;
}

double in_process_hop(std::array<int, 2> cores, int round_trips) {
  double result = 0;
  pin({cores[0], cores[1]});
  pw::in_process::run(2, [&](pw::in_process::endpoint& here) {
    pin({cores[static_cast<std::size_t>(here.rank())]});
    auto const there = here.open({0, 1, pw::traffic::activation}), back = here.open({1, 0, pw::traffic::gradient});
    std::vector<float> out(1024), in(1024);
    if (here.rank() == 0)
      result = median_hop(round_trips, [&] {
        auto const answer = here.post(back, pw::message_of(in));
        here.wait(here.send(there, pw::message_of(out)));
        here.wait(answer);
      });
    else
      for (int i = 0; i < warm_up + round_trips; ++i) {
        here.wait(here.post(there, pw::message_of(in)));
        here.wait(here.send(back, pw::message_of(out)));
      }
  });
  return result;
}

/// The same with a bare way to signal: two threads, signal(0) and await(0) for the way there, 1 for the way back.
template<class Signals> double bare_hop(std::array<int, 2> cores, int round_trips) {
  Signals signals;
  std::array<std::vector<float>, 2> sent, received;
  for (auto& each : sent) each.resize(1024);
  for (auto& each : received) each.resize(1024);
  std::thread other([&] {
    pin({cores[1]});
    for (int i = 0; i < warm_up + round_trips; ++i) {
      signals.await(0);
      std::swap(received[1], sent[0]);
      std::swap(received[0], sent[1]);
      signals.signal(1);
    }
  });
  pin({cores[0]});
  auto const result = median_hop(round_trips, [&] {
    signals.signal(0);
    signals.await(1);
  });
  other.join();
  return result;
}

struct spinning {
  struct alignas(64) {
    std::atomic<unsigned> count = 0;
    unsigned seen = 0;
  } ways[2];
  void signal(int way) { ways[way].count.fetch_add(1, std::memory_order_release); }
  void await(int way) {
    auto& [count, seen] = ways[way];
    while (count.load(std::memory_order_acquire) == seen) pw::in_process::detail::pause();
    ++seen;
  }
};

struct semaphores {
  sem_t ways[2];
  semaphores() {
    for (auto& each : ways) sem_init(&each, 0, 0);
  }
  ~semaphores() {
    for (auto& each : ways) sem_destroy(&each);
  }
  void signal(int way) { sem_post(&ways[way]); }
  void await(int way) {
    while (sem_wait(&ways[way]) != 0) {}
  }
};

}  // namespace

int main(int argc, char** argv) try {
  bool const json = argc == 2 && std::strcmp(argv[1], "--json") == 0;
  if (argc > 1 && !json) throw pw::error("usage: hop [--json]");
  auto const cores = usable_cores();
  if (cores.size() < 2) throw pw::error("this benchmark needs two cores, and may use one only");
  std::array const apart{cores[0], cores[1]}, together{cores[0], cores[0]};

  // Each several times, in turn, and the median of those.
  std::array<std::vector<double>, 5> found;
  for (int run = 0; run < 5; ++run) {
    found[0].push_back(in_process_hop(apart, 20'000));
    found[1].push_back(bare_hop<spinning>(apart, 20'000));
    found[2].push_back(bare_hop<semaphores>(apart, 4'000));
    found[3].push_back(in_process_hop(together, 4'000));
    found[4].push_back(bare_hop<semaphores>(together, 4'000));
  }
  for (auto& each : found) std::ranges::sort(each);
  double const hop = found[0][2], spin = found[1][2], semaphore = found[2][2];
  double const asleep = found[3][2], asleep_semaphore = found[4][2];
  std::printf(json ? "{\"hop_us\": %.3f, \"spin_us\": %.3f, \"semaphore_us\": %.3f, \"hop_over_spin\": %.2f, "
                     "\"hop_over_semaphore\": %.2f, \"one_core_hop_us\": %.3f, \"one_core_semaphore_us\": %.3f, "
                     "\"one_core_hop_over_semaphore\": %.2f}\n"
                   : "two cores: in-process hop %.3f us, bare spin loop %.3f us, bare semaphores %.3f us; "
                     "hop / spin %.2f, hop / semaphores %.2f\n"
                     "one core:  in-process hop %.3f us, bare semaphores %.3f us; hop / semaphores %.2f\n",
              hop, spin, semaphore, hop / spin, hop / semaphore, asleep, asleep_semaphore, asleep / asleep_semaphore);
} catch (std::exception const& fault) {
  std::fprintf(stderr, "hop: %s\n", fault.what());
  return 1;
}
