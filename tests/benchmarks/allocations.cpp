// SPDX-License-Identifier: Apache-2.0
// Allocations per step in the steady state: every operator new of the process is counted, over 100 steps of 4 ranks, after
// 40 to warm up. The stages allocate nothing, so what is counted is the library's. Goal: 0.
//   allocations [--json]
#include <atomic>
#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include <benchmarks/support.hpp>

#include <pipewright/transport/in_process.hpp>

namespace {
std::atomic<bool> counting = false;
std::atomic<long> allocations = 0;

void* counted(std::size_t bytes) {
  if (counting) ++allocations;
  if (void* const memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

namespace pw = pipewright;
constexpr int ranks = 4, steps = 100;

double allocations_per_step(std::string_view schedule) {
  auto const plan = pw::make_plan(schedule, {.ranks = ranks, .micro_batches = 8});
  std::barrier all(ranks);
  allocations = 0;
  pw::in_process::run(plan, [&](pw::in_process::endpoint& here) {
    auto training = pw::pipeline(plan.view(), benchmarks::stages_of<benchmarks::nothing_to_do>{plan.view().stages()},
                                 here, pw::adam{});
    benchmarks::empty_batch const batch;
    for (int i = 0; i < 40; ++i) training.step(batch);
    all.arrive_and_wait();
    counting = true;
    all.arrive_and_wait();
    for (int i = 0; i < steps; ++i) training.step(batch);
    all.arrive_and_wait();
    counting = false;
    all.arrive_and_wait();
    training.drain();
  });
  return static_cast<double>(allocations) / steps;
}

}  // namespace

int main(int argc, char** argv) try {
  bool const json = argc == 2 && std::strcmp(argv[1], "--json") == 0;
  if (argc > 1 && !json) throw pw::error("usage: allocations [--json]");
  counting = true;
  void* const volatile counted_too = ::operator new(1);  // volatile: no compiler may leave it out
  counting = false;
  ::operator delete(counted_too);
  if (allocations != 1) throw pw::error("the counter does not count");
  bool first = true;
  for (auto const schedule : benchmarks::training_schedules) {
    double const found = allocations_per_step(schedule);
    std::printf(json ? "%s\"%s\": %g" : "%s%-12s %g allocations a step\n", json ? (first ? "{" : ", ") : "",
                schedule.data(), found);
    first = false;
  }
  if (json) std::printf("}\n");
} catch (std::exception const& fault) {
  std::fprintf(stderr, "allocations: %s\n", fault.what());
  return 1;
}
