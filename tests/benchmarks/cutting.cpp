// SPDX-License-Identifier: Apache-2.0
// What it takes to cut 10,000 layers for 1,024 ranks, chains of several kinds, medians of three; and to look for the best plan of a
// model of 1,024 layers on as many devices. Goal: under 1 s a cut.
//   cutting [--json]
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <utility>
#include <vector>

#include <benchmarks/support.hpp>

#include <pipewright/partition/all.hpp>

namespace {

namespace pw = pipewright;
constexpr int layers = 10'000, ranks = 1024;

double seconds_of(auto&& work) {
  auto const start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// A layer's work from a number of 0 to 1, and how its boundary's crossing compares with the mean of that, twice over.
struct kind {
  char const* name;
  std::function<double(int, double)> work;
  double crossing = 0;
  pw::crossings over = pw::crossings::overlapped;
};

pw::cost_chain<double> chain_of(kind const& of) {
  std::mt19937 engine(7);
  auto const draw = [&] { return static_cast<double>(engine() % 1'000'000 + 1) / 1'000'001; };
  pw::cost_chain<double> c;
  c.over = of.over;
  for (int i = 0; i < layers; ++i) c.work.push_back(of.work(i, draw()));
  if (of.crossing > 0)
    for (int i = 0; i + 1 < layers; ++i) c.crossing.push_back(of.crossing * draw());
  return c;
}

double seconds_to_plan(int devices) {
  pw::model_profile of;
  of.layers.assign(static_cast<std::size_t>(devices),
                   {.forward = 1, .backward_input = 1, .backward_weight = 1, .recompute = 1, .output = 1});
  pw::cluster const on{.ranks = devices, .bandwidth = 1e6, .latency = 1e-3};
  return seconds_of([&] {
    if (pw::rank_plans(of, on, {.batch = devices, .worth_simulating = 10}).best() == nullptr)
      throw pw::error("no plan was found");
  });
}

}  // namespace

int main(int argc, char** argv) try {
  bool const json = argc == 2 && std::strcmp(argv[1], "--json") == 0;
  if (argc > 1 && !json) throw pw::error("usage: cutting [--json]");
  auto const random = [](int, double x) { return x; };
  kind const kinds[]{
      {"layers alike", [](int, double) { return 1.; }},
      {"random layers", random},
      {"random layers, boundaries", random, 5},
      {"random layers, boundaries that are waited for", random, 5, pw::crossings::added},
      {"layers of very different weight", [](int, double x) { return std::pow(10, 6 * x); }},
      {"one layer as heavy as all others", [](int i, double x) { return i == layers / 2 ? layers / 2. : x; }},
  };
  std::printf(json ? "[" : "");
  for (auto const& each : kinds) {
    auto const chain = chain_of(each);
    std::vector<double> taken;
    for (int i = 0; i < 3; ++i)
      taken.push_back(seconds_of([&] {
        if (!pw::cut_chain(chain, ranks)) throw pw::error("no cut was found");
      }));
    std::printf(json ? "{\"what\": \"%s\", \"cut_s\": %.4f}, " : "%-48s %8.3f s\n", each.name,
                benchmarks::median(taken));
    std::fflush(stdout);
  }
  std::printf(json ? "{\"what\": \"the best plan on 1,024 devices\", \"plan_s\": %.4f}]\n"
                   : "the best plan on 1,024 devices                   %8.3f s\n",
              seconds_to_plan(1024));
} catch (std::exception const& fault) {
  std::fprintf(stderr, "cutting: %s\n", fault.what());
  return 1;
}
