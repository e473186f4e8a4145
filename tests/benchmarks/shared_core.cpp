// SPDX-License-Identifier: Apache-2.0
// How fast a processor is while a second one works too, over how fast it is alone: about 1 where both are cores, about half where
// they are threads of one core, whatever the machine says of itself. A virtual machine's may be now one, now the other: figures of
// two ranks taken then are not those of two cores. Prints that number, the lesser of the two processors'; 1 where there is one.
//   shared_core
#include <algorithm>
#include <array>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include <pthread.h>
#include <sched.h>

namespace {

using clock_type = std::chrono::steady_clock;

/// Rounds a second of sums and products that do not wait for one another.
double pace(double seconds) {
  auto const begun = clock_type::now();
  auto const end = begun + std::chrono::duration_cast<clock_type::duration>(std::chrono::duration<double>(seconds));
  std::array<double, 32> x{};
  double rounds = 0;
  for (; clock_type::now() < end; rounds += 1000)
    for (int i = 0; i < 1000; ++i)
      for (double& each : x) each = each * 0.999 + 0.001;
  double volatile keep = *std::max_element(x.begin(), x.end());  // else nothing need be computed
  static_cast<void>(keep);
  return rounds / std::chrono::duration<double>(clock_type::now() - begun).count();
}

/// On each of those processors at once.
std::vector<double> paces_on(std::vector<int> const& processors) {
  std::vector<double> found(processors.size());
  std::barrier together(static_cast<std::ptrdiff_t>(processors.size()));
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < processors.size(); ++i)
    threads.emplace_back([&, i] {
      cpu_set_t only;
      CPU_ZERO(&only);
      CPU_SET(static_cast<std::size_t>(processors[i]), &only);
      pthread_setaffinity_np(pthread_self(), sizeof only, &only);
      together.arrive_and_wait();
      found[i] = pace(0.1);
    });
  threads.clear();
  return found;
}

}  // namespace

int main() {
  std::vector<int> mine;
  cpu_set_t all;
  if (sched_getaffinity(0, sizeof all, &all) == 0)
    for (int i = 0; i < CPU_SETSIZE && mine.size() < 2; ++i)
      if (CPU_ISSET(static_cast<std::size_t>(i), &all)) mine.push_back(i);
  double least = 1;
  if (mine.size() == 2) {
    auto const both = paces_on(mine);
    for (std::size_t i = 0; i < 2; ++i) least = std::min(least, both[i] / paces_on({mine[i]}).front());
  }
  std::printf("%.2f\n", least);
}
