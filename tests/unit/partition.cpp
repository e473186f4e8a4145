// SPDX-License-Identifier: Apache-2.0
// Every partitioner against all cuts that there are, on seeded random chains; each variant on a set of its own.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <support/twice.hpp>

#include <pipewright/partition/all.hpp>
#include <pipewright/plan/rational.hpp>

namespace pw = pipewright;

namespace {

#ifdef PIPEWRIGHT_QUICK_TESTS
constexpr unsigned chains = 10'000, chains_of_chunks = 5'000, chains_with_replicas = 2'000, long_chains = 20;
#else
constexpr unsigned chains = 100'000, chains_of_chunks = chains, chains_with_replicas = chains, long_chains = 400;
#endif

using number = std::int64_t;
constexpr number none = std::numeric_limits<number>::max();

/// Calls judge(sizes) for every cut of n layers into k stages of at least `smallest` layers.
void for_each_cut(int n, int k, int smallest, std::vector<int>& sizes, auto const& judge) {
  if (k == 1) {
    if (n < smallest) return;
    sizes.push_back(n);
    judge(std::as_const(sizes));
    sizes.pop_back();
    return;
  }
  for (int first = smallest; first <= n; ++first) {
    sizes.push_back(first);
    for_each_cut(n - first, k - 1, smallest, sizes, judge);
    sizes.pop_back();
  }
}
void for_each_cut(int n, int k, int smallest, auto const& judge) {
  std::vector<int> sizes;
  for_each_cut(n, k, smallest, sizes, judge);
}

/// A seeded chain, of small whole numbers, so that sums are exact and ties are common.
struct random_chain {
  std::mt19937 engine;
  pw::cost_chain<number> chain;
  int layers, stages;

  explicit random_chain(unsigned seed, int most_layers = 12, int most_stages = 6)
      : engine{seed}, layers{1 + below(most_layers)}, stages{1 + below(std::min(layers, most_stages))} {
    int const most = below(2) == 0 ? 5 : 1000;
    for (int i = 0; i < layers; ++i) chain.work.push_back(below(most + 1));
  }
  int below(int n) { return static_cast<int>(engine() % static_cast<unsigned>(n)); }
  void draw_crossings() {
    for (int i = 0; i + 1 < layers; ++i) chain.crossing.push_back(below(2) == 0 ? below(4) : below(2000));
    chain.over = below(2) == 0 ? pw::crossings::overlapped : pw::crossings::added;
  }
  void draw_paces() {
    for (int i = 0; i < stages; ++i) chain.pace.push_back(1 + below(4));
  }
  void draw_link_paces() {
    for (int i = 0; i < stages; ++i) chain.link_pace.push_back(below(4));
  }
};

/// What the stages of a cut cost, layer by layer.
std::vector<number> costs_of(pw::cost_chain<number> const& c, std::vector<int> const& sizes) {
  std::vector<number> found;
  std::size_t at = 0;
  auto const n = c.work.size();
  for (std::size_t s = 0; s < sizes.size(); ++s) {
    auto const crossing = [&](std::size_t link, std::size_t behind) {
      return c.crossing.empty() || behind == 0 || behind == n
                 ? number{0}
                 : c.crossing[behind - 1] * (c.link_pace.empty() ? 1 : c.link_pace[link]);
    };
    number const in = crossing(s - 1, at);
    number work = 0;
    for (int i = 0; i < sizes[s]; ++i) work += c.work[at++] * (c.pace.empty() ? 1 : c.pace[s]);
    number const out = crossing(s, at);
    found.push_back(c.over == pw::crossings::added ? work + in + out : std::max({work, in, out}));
  }
  return found;
}

/// The dearest stage and the sum of squares.
std::pair<number, number> judged(pw::cost_chain<number> const& c, std::vector<int> const& sizes) {
  std::pair<number, number> found{0, 0};
  for (number const each : costs_of(c, sizes)) {
    found.first = std::max(found.first, each);
    found.second += each * each;
  }
  return found;
}

bool all_fit(std::vector<int> const& sizes, auto const& fits) {
  int begin = 0;
  for (std::size_t s = 0; s < sizes.size(); ++s) {
    if (!fits(static_cast<int>(s), begin, begin + sizes[s])) return false;
    begin += sizes[s];
  }
  return true;
}

/// A cut that was found is the best of all, the most even of these, and what it says it costs; none is found where there is none.
void check_best(random_chain const& r, std::optional<pw::cut<number>> const& found, auto const& fits,
                int smallest = 1) {
  std::pair best{none, none};
  for_each_cut(r.layers, r.stages, smallest, [&](std::vector<int> const& sizes) {
    if (all_fit(sizes, fits)) best = std::min(best, judged(r.chain, sizes));
  });
  REQUIRE(found.has_value() == (best.first != none));
  if (!found) return;
  REQUIRE(static_cast<int>(found->sizes.size()) == r.stages);
  REQUIRE(std::accumulate(found->sizes.begin(), found->sizes.end(), 0) == r.layers);
  REQUIRE(*std::min_element(found->sizes.begin(), found->sizes.end()) >= smallest);
  REQUIRE(all_fit(found->sizes, fits));
  REQUIRE(found->dearest == best.first);
  REQUIRE(judged(r.chain, found->sizes) == best);
}

constexpr auto anything = [](int, int, int) { return true; };

/// The best cut by a table that leaves nothing out: the dearest stage, then the sum of squares, then the smallest last stages.
std::optional<std::vector<int>> cut_by_table(random_chain const& r, auto const& fits, int smallest) {
  auto const& c = r.chain;
  auto const at = [](int i) { return static_cast<std::size_t>(i); };
  std::vector<number> before{0};
  for (number const each : c.work) before.push_back(before.back() + each);
  auto const cost = [&](int s, int first, int last) {
    auto const crossing = [&](int link, int behind) {
      return c.crossing.empty() || behind == 0 || behind == r.layers
                 ? number{0}
                 : c.crossing[at(behind - 1)] * (c.link_pace.empty() ? 1 : c.link_pace[at(link)]);
    };
    number const in = crossing(s - 1, first), out = crossing(s, last),
                 work = (before[at(last)] - before[at(first)]) * (c.pace.empty() ? 1 : c.pace[at(s)]);
    return c.over == pw::crossings::added ? work + in + out : std::max({work, in, out});
  };
  std::vector<std::vector<int>> begins;
  auto const least = [&](auto const& add, number most) {
    std::vector<number> now(at(r.layers + 1), none);
    now[0] = 0;
    begins.assign(at(r.stages), std::vector<int>(now.size()));
    for (int s = 0; s < r.stages; ++s) {
      auto const rest = std::exchange(now, std::vector<number>(now.size(), none));
      for (int end = 0; end <= r.layers; ++end)
        for (int begin = end - smallest; begin >= 0; --begin) {
          if (rest[at(begin)] == none || !fits(s, begin, end) || cost(s, begin, end) > most) continue;
          number const here = add(rest[at(begin)], cost(s, begin, end));
          if (here < now[at(end)]) now[at(end)] = here, begins[at(s)][at(end)] = begin;
        }
    }
    return now.back();
  };
  number const dearest = least([](number a, number b) { return std::max(a, b); }, none);
  if (dearest == none) return std::nullopt;
  least([](number a, number b) { return a + b * b; }, dearest);
  std::vector<int> sizes(at(r.stages));
  for (int s = r.stages - 1, end = r.layers; s >= 0; --s) {
    int const begin = begins[at(s)][at(end)];
    sizes[at(s)] = end - begin;
    end = begin;
  }
  return sizes;
}

/// The cheapest cut with replicas, by the paper's words: a stage's time is its work, or its all-reduce, over its replicas.
double best_with_replicas(pw::replica_costs const& of, int begin, int devices) {
  int const n = static_cast<int>(of.work.size());
  if (begin == n) return devices == 0 ? 0 : std::numeric_limits<double>::infinity();
  double best = std::numeric_limits<double>::infinity(), work = 0, bytes = 0;
  for (int end = begin + 1; end <= n; ++end) {
    work += of.work[static_cast<std::size_t>(end) - 1];
    bytes += of.parameters[static_cast<std::size_t>(end) - 1];
    double const crossing = end == n ? 0 : 2 * of.crossing[static_cast<std::size_t>(end) - 1] / of.bandwidth;
    for (int m = 1; m <= devices; ++m) {
      double const here = std::max(work, 2 * (m - 1) * bytes / of.bandwidth) / m;
      best = std::min(best, std::max({here, crossing, best_with_replicas(of, end, devices - m)}));
    }
  }
  return best;
}

constexpr pw::cost_chain<pw::rational> thirds() {
  return {.work = {{1, 3}, {2, 3}, {1, 3}, 1, {1, 3}},
          .crossing = {{1, 6}, {1, 6}, {1, 2}, {1, 6}},
          .over = pw::crossings::added};
}
constexpr bool cuts_alike(std::vector<int> const& sizes, std::initializer_list<int> expected) {
  return std::equal(sizes.begin(), sizes.end(), expected.begin(), expected.end());
}

}  // namespace

TEST_CASE("work alone") {
  for (unsigned seed = 0; seed < chains; ++seed) {
    CAPTURE(seed);
    random_chain const r(seed);
    check_best(r, pw::cut_chain(r.chain, r.stages), anything);
  }
}

TEST_CASE("work and what a cut costs") {
  for (unsigned seed = 0; seed < chains; ++seed) {
    CAPTURE(seed);
    random_chain r(1'000'000 + seed);
    r.draw_crossings();
    check_best(r, pw::cut_chain(r.chain, r.stages), anything);
  }
}

TEST_CASE("devices of different pace") {
  for (unsigned seed = 0; seed < chains; ++seed) {
    CAPTURE(seed);
    random_chain r(2'000'000 + seed);
    if (r.below(2) == 0) r.draw_crossings();
    r.draw_paces();
    check_best(r, pw::cut_chain(r.chain, r.stages), anything);
  }
}

TEST_CASE("links of different pace") {
  for (unsigned seed = 0; seed < chains; ++seed) {
    CAPTURE(seed);
    random_chain r(7'000'000 + seed);
    r.draw_crossings();
    r.draw_link_paces();
    if (r.below(2) == 0) r.draw_paces();
    check_best(r, pw::cut_chain(r.chain, r.stages), anything);
  }
}

TEST_CASE("a memory limit that differs by stage") {
  for (unsigned seed = 0; seed < chains; ++seed) {
    CAPTURE(seed);
    random_chain r(3'000'000 + seed);
    if (r.below(2) == 0) r.draw_crossings();
    std::vector<int> bytes(static_cast<std::size_t>(r.layers)), limits(static_cast<std::size_t>(r.stages));
    for (auto& each : bytes) each = r.below(10);
    for (auto& each : limits) each = r.below(60);
    auto const fits = [&](int stage, int first, int last) {
      int const versions = r.stages - stage;  // weight stashing
      return versions * std::accumulate(bytes.begin() + first, bytes.begin() + last, 0) <=
             limits[static_cast<std::size_t>(stage)];
    };
    check_best(r, pw::cut_chain(r.chain, r.stages, fits), fits);
  }
}

TEST_CASE("empty stages, where they are asked for") {
  for (unsigned seed = 0; seed < chains; ++seed) {
    CAPTURE(seed);
    random_chain r(4'000'000 + seed);
    r.draw_paces();
    pw::stage_costs_of_chain const costs(r.chain, anything);
    check_best(r, pw::cheapest_cut(costs, r.layers, r.stages, true), anything, 0);
  }
}

TEST_CASE("long chains") {
  for (unsigned seed = 0; seed < long_chains; ++seed) {
    CAPTURE(seed);
    random_chain r(8'000'000 + seed, 400, 40);
    if (r.below(4) == 0)  // a few layers weigh as much as all others
      for (auto& each : r.chain.work)
        if (r.below(50) == 0) each *= 1000;
    if (r.below(2) == 0) r.draw_crossings();
    if (r.below(3) == 0 && !r.chain.crossing.empty()) r.draw_link_paces();
    if (r.below(3) == 0) r.draw_paces();
    int const smallest = r.below(3) == 0 ? 0 : 1, refused = r.below(3);
    auto const fits = [&](int stage, int first, int last) {
      return (7 * stage + 3 * first + 5 * last) % 11 >= refused;
    };
    pw::stage_costs_of_chain const costs(r.chain, fits);
    auto const found = pw::cheapest_cut(costs, r.layers, r.stages, smallest == 0);
    auto const best = cut_by_table(r, fits, smallest);
    REQUIRE(found.has_value() == best.has_value());
    if (found) REQUIRE(found->sizes == *best);
  }
}

TEST_CASE("times too small to be told apart") {
  constexpr double tiny = std::numeric_limits<double>::denorm_min();
  auto const cut = [](pw::cost_chain<double> const& of, auto const& fits) { return pw::cut_chain(of, 2, fits); };
  CHECK(cut({.work = {tiny, tiny}, .crossing = {1}}, anything)->sizes == std::vector{1, 1});
  CHECK_FALSE(cut({.work = {tiny, tiny}}, [](int, int, int) { return false; }).has_value());
  CHECK(cut({.work = {0, 0}}, anything)->dearest == 0);
}

TEST_CASE("the chunks of a rank together") {
  for (unsigned seed = 0; seed < chains_of_chunks; ++seed) {
    CAPTURE(seed);
    random_chain r(5'000'000 + seed);
    if (r.below(2) == 0) r.draw_crossings();
    int const ranks = 1 + r.below(3);
    r.stages = std::max(1, std::min(r.layers, 6) / ranks) * ranks;
    if (r.stages > r.layers) continue;
    std::vector<int> placement;
    bool const is_v = r.below(2) == 0;
    for (int s = 0; s < r.stages; ++s)
      placement.push_back(is_v && s / ranks % 2 == 1 ? ranks - 1 - s % ranks : s % ranks);
    if (r.below(4) == 0)
      for (int s = 0; s < r.stages; ++s) r.chain.pace.push_back(1 + placement[static_cast<std::size_t>(s)] % 2);
    if (r.below(4) == 0) r.draw_link_paces();
    auto const dearest_rank = [&](std::vector<int> const& sizes) {
      std::vector<number> loads(static_cast<std::size_t>(ranks));
      auto const costs = costs_of(r.chain, sizes);
      for (std::size_t s = 0; s < costs.size(); ++s) loads[static_cast<std::size_t>(placement[s])] += costs[s];
      return *std::max_element(loads.begin(), loads.end());
    };
    number best = none;
    for_each_cut(r.layers, r.stages, 1,
                 [&](std::vector<int> const& sizes) { best = std::min(best, dearest_rank(sizes)); });
    auto const found = pw::cut_by_rank(r.chain, placement);
    REQUIRE(found.has_value());
    REQUIRE(found->is_best);
    REQUIRE(found->dearest == best);
    REQUIRE(dearest_rank(found->sizes) == best);
    REQUIRE(found->gap() == 0);
    auto const hasty = pw::cut_by_rank(r.chain, placement, 3);
    REQUIRE(hasty.has_value());
    REQUIRE(dearest_rank(hasty->sizes) == hasty->dearest);
    REQUIRE(hasty->dearest >= best);
    REQUIRE(hasty->bound <= static_cast<double>(best));
  }
}

TEST_CASE("replicas, as PipeDream's paper has them") {
  for (unsigned seed = 0; seed < chains_with_replicas; ++seed) {
    CAPTURE(seed);
    random_chain r(6'000'000 + seed);
    int const layers = std::min(r.layers, 7), devices = 1 + r.below(5);
    pw::replica_costs of{.work = {}, .parameters = {}, .crossing = {}, .bandwidth = 4};
    for (int i = 0; i < layers; ++i) {
      of.work.push_back(r.below(20));
      of.parameters.push_back(r.below(60));
      if (i > 0) of.crossing.push_back(r.below(20));
    }
    auto const found = pw::cut_with_replicas(of, devices);
    CHECK(found.dearest == best_with_replicas(of, 0, devices));
    int next = 0, used = 0;
    double dearest = 0;
    for (auto const& [first, last, replicas] : found.stages) {
      REQUIRE(first == next);
      REQUIRE(last > first);
      REQUIRE(replicas >= 1);
      double const work = std::accumulate(of.work.begin() + first, of.work.begin() + last, 0.),
                   bytes = std::accumulate(of.parameters.begin() + first, of.parameters.begin() + last, 0.);
      dearest = std::max(dearest, std::max(work, 2 * (replicas - 1) * bytes / of.bandwidth) / replicas);
      if (first > 0) dearest = std::max(dearest, 2 * of.crossing[static_cast<std::size_t>(first) - 1] / of.bandwidth);
      next = last;
      used += replicas;
    }
    REQUIRE(next == layers);
    REQUIRE(used == devices);
    REQUIRE(dearest == found.dearest);
  }
}

TEST_CASE("the compiler cuts too") {
  // Cut behind the second layer: 1 + 1/6 and 1/6 + 5/3. Behind the third: 4/3 + 1/2 and 1/2 + 4/3, of which both are dearest.
  PIPEWRIGHT_TWICE(cuts_alike(pw::cut_chain(thirds(), 2)->sizes, {2, 3}));
  PIPEWRIGHT_TWICE(pw::cut_chain(thirds(), 2)->dearest == pw::rational(11, 6));
  PIPEWRIGHT_TWICE(cuts_alike(pw::balanced_sizes({0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0}, 4), {4, 3, 3, 4}));
  PIPEWRIGHT_TWICE(cuts_alike(pw::uniform_sizes(14, 4), {4, 4, 3, 3}));
  PIPEWRIGHT_TWICE(!pw::cut_chain(pw::cost_chain<int>{.work = {1, 1}}, 3).has_value());
  PIPEWRIGHT_TWICE(pw::cut_by_rank(pw::cost_chain<int>{.work = {3, 1, 1, 3}}, {0, 1, 0, 1})->dearest == 4);
  PIPEWRIGHT_TWICE(pw::cut_with_replicas({{2, 2}, {0, 0}, {8}, 4}, 2).stages ==
                   std::vector<pw::replicated_stage>{{0, 2, 2}});
}

TEST_CASE("the optima that torchgpipe's balancer misses (as reported, see Barany-Grinberg's blockpartition)") {
  auto const dearest = [](std::vector<number> work, int stages) {
    return pw::cut_chain(pw::cost_chain<number>{.work = std::move(work)}, stages)->dearest;
  };
  CHECK(dearest({6, 8, 14, 6, 6}, 3) == 14);
  CHECK(dearest({5, 5, 5, 5, 20}, 2) == 20);
  CHECK(dearest({100, 101, 100, 101, 100, 101}, 4) == 201);
}

TEST_CASE(
    "ten thousand layers on a thousand ranks: no stage below the bound can be, and none is above what was found") {
  std::mt19937 engine(7);
  pw::cost_chain<double> large;
  for (int i = 0; i < 10'000; ++i) large.work.push_back(static_cast<double>(1 + engine() % 1000));
  auto const found = pw::cut_chain(large, 1024);
  REQUIRE(found.has_value());
  // Greedy stages that take what they can: with the cost that was found 1024 are enough, with any less they are not.
  auto const needed = [&](double most) {
    int stages = 1;
    double here = 0;
    for (double const each : large.work) {
      if (here + each > most) ++stages, here = 0;
      here += each;
    }
    return stages;
  };
  CHECK(needed(found->dearest) <= 1024);
  CHECK(needed(found->dearest - 1) > 1024);
}

TEST_CASE("what is no chain is said") {
  CHECK_THROWS_WITH_AS(
      pw::cut_chain(pw::cost_chain<int>{.work = {1, 2}, .crossing = {1, 2}}, 2),
      "a chain cannot be cut: `crossing` has one value for each boundary, one less than there are layers, or none",
      pw::error);
  CHECK_THROWS_WITH_AS(pw::cut_chain(pw::cost_chain<int>{.work = {1, 2}, .pace = {1}}, 2),
                       "a chain cannot be cut: `pace` has one value for each stage, or none", pw::error);
  CHECK_THROWS_WITH_AS(
      pw::cut_chain(pw::cost_chain<double>{.work = {1, std::numeric_limits<double>::quiet_NaN()}}, 2),
      "a chain cannot be cut: work, crossings and the paces of links are numbers from 0 on, none of them infinite",
      pw::error);
  CHECK_THROWS_WITH_AS(pw::cut_chain(pw::cost_chain<int>{.work = {1, 2}, .crossing = {1}, .link_pace = {1}}, 2),
                       doctest::Contains("`link_pace` has one value for each stage"), pw::error);
  CHECK_THROWS_WITH_AS(pw::cut_chain(pw::cost_chain<int>{.work = {1, 2}, .crossing = {1}, .link_pace = {-1, 1}}, 2),
                       doctest::Contains("numbers from 0 on"), pw::error);
  CHECK_THROWS_WITH_AS(pw::cut_chain(pw::cost_chain<double>{.work = {1, 2},
                                                            .crossing = {std::numeric_limits<double>::infinity()},
                                                            .link_pace = {0, 0}},
                                     2),
                       doctest::Contains("none of them infinite"), pw::error);
  for (auto const& placement : {std::vector<int>{}, std::vector{0, -1}})
    CHECK_THROWS_WITH_AS(pw::cut_by_rank(pw::cost_chain<int>{.work = {1, 2}}, placement),
                         doctest::Contains("a placement gives every stage a rank, from 0 on"), pw::error);
  CHECK_THROWS_AS(pw::cut_with_replicas({{1}, {1}, {}, 0}, 1), pw::error);
  CHECK_THROWS_AS(pw::uniform_sizes(2, 3), pw::error);
}
