// SPDX-License-Identifier: Apache-2.0
// Order, lower, slots, verify and simulate at run time: seconds (elapsed, and of the processor), and the most memory that the process held, for sizes up to
// P = 1024, M = 4096 (over 8 million compute actions). Goals: under 10 s there, memory linear in the actions. Each size in a
// process of its own.
//   planning [--json]
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pipewright/plan/plan.hpp>

namespace pw = pipewright;

namespace {

struct figures {
  double plan, simulate, processor, makespan, mebibytes;
};

double seconds_of(auto&& work) {
  auto const start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

figures measure(pw::shape shape) {
  int ends[2];
  if (pipe(ends) != 0) throw pw::error("no pipe can be made");
  pid_t const child = fork();
  if (child < 0) throw pw::error("no process can be made");
  figures found{};
  if (child == 0) {
    pw::dynamic_plan plan;
    found.plan = seconds_of([&] { plan = pw::make_plan<pw::flush>(shape); });
    found.simulate = seconds_of([&] { found.makespan = pw::simulate(plan.view(), pw::costs<double>{}).makespan; });
    found.processor = static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
    _exit(write(ends[1], &found, sizeof found) == sizeof found ? 0 : 1);
  }
  close(ends[1]);
  bool const told = read(ends[0], &found, sizeof found) == sizeof found;
  close(ends[0]);
  rusage used{};
  int status = 0;
  if (wait4(child, &status, 0, &used) != child || status != 0 || !told)
    throw pw::error("the measured process failed: is there memory enough?");
  found.mebibytes = static_cast<double>(used.ru_maxrss) / 1024;
  return found;
}

}  // namespace

int main(int argc, char** argv) try {
  bool const json = argc == 2 && std::strcmp(argv[1], "--json") == 0;
  if (argc > 1 && !json) throw pw::error("usage: planning [--json]");
  if (json) std::printf("[");
  for (pw::shape const shape :
       {pw::shape{.ranks = 128, .micro_batches = 512}, pw::shape{.ranks = 256, .micro_batches = 1024},
        pw::shape{.ranks = 512, .micro_batches = 2048}, pw::shape{.ranks = 1024, .micro_batches = 4096}}) {
    auto const [plan, simulate, processor, makespan, mebibytes] = measure(shape);
    double const actions = 2.0 * shape.ranks * shape.micro_batches;
    // flush with F, I and W of 1 each ends at (M + P - 1) * 3
    if (makespan != 3.0 * (shape.micro_batches + shape.ranks - 1)) throw pw::error("the simulated makespan is wrong");
    std::printf(json ? "%s{\"ranks\": %d, \"micro_batches\": %d, \"actions\": %.0f, \"plan_s\": %.3f, \"simulate_s\": "
                       "%.3f, \"together_s\": %.3f, \"processor_s\": %.3f, "
                       "\"peak_mib\": %.0f, \"bytes_per_action\": %.0f}"
                     : "%sP %4d  M %4d  %8.0f compute actions: plan %6.3f s, simulate %6.3f s, together %6.3f s "
                       "(processor %6.3f s), peak %5.0f MiB, %3.0f bytes an action\n",
                json && shape.ranks > 128 ? ", " : "", shape.ranks, shape.micro_batches, actions, plan, simulate,
                plan + simulate, processor, mebibytes, mebibytes * 1048576 / actions);
    std::fflush(stdout);
  }
  if (json) std::printf("]\n");
} catch (std::exception const& fault) {
  std::fprintf(stderr, "planning: %s\n", fault.what());
  return 1;
}
