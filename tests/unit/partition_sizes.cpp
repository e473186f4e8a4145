// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/partition/named_cut.hpp>

namespace pw = pipewright;

namespace {

/// The dearest stage of a cut, and the sum of the squares of all.
std::pair<double, double> judged(std::vector<double> const& costs, std::vector<int> const& sizes) {
  double dearest = 0, squares = 0;
  for (auto at = costs.begin(); int const size : sizes) {
    double const all = std::accumulate(at, at + size, 0.);
    dearest = std::max(dearest, all);
    squares += all * all;
    at += size;
  }
  return {dearest, squares};
}

/// That of the best cut: tries all of them.
std::pair<double, double> best(std::vector<double> const& costs, int stages) {
  auto const n = static_cast<int>(costs.size());
  std::vector<int> ends(costs.size() - 1);  // whether a stage ends after a layer
  std::fill(ends.begin(), ends.begin() + stages - 1, 1);
  std::pair<double, double> found{1e300, 1e300};
  do {
    std::vector<int> sizes{1};
    for (int i = 0; i + 1 < n; ++i)
      if (ends[static_cast<std::size_t>(i)] == 1) sizes.push_back(1);
      else ++sizes.back();
    found = std::min(found, judged(costs, sizes));
  } while (std::prev_permutation(ends.begin(), ends.end()));
  return found;
}

}  // namespace

TEST_CASE("the dearest stage is as cheap as can be, and of such cuts it is the most even") {
  for (unsigned seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    std::mt19937 engine(seed);
    std::vector<double> costs(1 + engine() % 10);
    for (auto& each : costs) each = static_cast<double>(engine() % 6);
    int const stages = 1 + static_cast<int>(engine() % costs.size());
    auto const sizes = pw::balanced_sizes(costs, stages);
    REQUIRE(sizes.size() == static_cast<std::size_t>(stages));
    REQUIRE(*std::min_element(sizes.begin(), sizes.end()) >= 1);
    REQUIRE(std::accumulate(sizes.begin(), sizes.end(), 0) == static_cast<int>(costs.size()));
    CHECK(judged(costs, sizes) == best(costs, stages));
  }
}

TEST_CASE("costs that sums round") {
  for (unsigned seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    std::mt19937 engine(seed);
    std::vector<double> costs(12);
    for (auto& each : costs) each = 0.1 * static_cast<double>(engine() % 1000);
    auto const sizes = pw::balanced_sizes(costs, 5);
    REQUIRE(*std::min_element(sizes.begin(), sizes.end()) >= 1);
    REQUIRE(std::accumulate(sizes.begin(), sizes.end(), 0) == 12);
    CHECK(judged(costs, sizes).first == doctest::Approx(best(costs, 5).first).epsilon(1e-12));
  }
}

TEST_CASE("cuts that are known") {
  std::vector<double> blocks(14, 1);
  blocks.front() = blocks.back() = 0;
  CHECK(pw::balanced_sizes(blocks, 4) == std::vector{4, 3, 3, 4});
  CHECK(pw::balanced_sizes({5, 1, 1, 1}, 2) == std::vector{1, 3});
  CHECK_THROWS_WITH_AS(pw::balanced_sizes({1, 1}, 3),
                       "3 stages cannot be made of 2 layers; choose fewer ranks or chunks, or a model with more layers",
                       pw::error);
  CHECK_THROWS_AS(pw::balanced_sizes({1, 1}, 0), pw::error);
}

TEST_CASE("cuts that have a name") {
  pw::model_profile of;
  of.layers.push_back({.name = "embedding", .forward = 1, .parameters = 900});
  for (int i = 0; i < 12; ++i)
    of.layers.push_back({.name = "block " + std::to_string(i), .forward = 1, .backward_input = 1, .parameters = 100});
  of.layers.push_back({.name = "head", .forward = 8, .parameters = 900});
  auto const layers = pw::summaries(of);
  CHECK(layers[3].type == "block");
  CHECK(pw::named_cut(layers, "4,3,3,4", 4) == std::vector{4, 3, 3, 4});
  CHECK(pw::named_cut(layers, "uniform", 4) == std::vector{4, 4, 3, 3});
  CHECK(pw::named_cut(layers, "parameters", 4) == std::vector{1, 6, 6, 1});
  CHECK(pw::named_cut(layers, "time", 4) == std::vector{5, 4, 4, 1});
  CHECK(pw::named_cut(layers, "type:block", 4) == std::vector{4, 3, 3, 4});
  auto const refused = [&](char const* how, int stages, char const* why) {
    CAPTURE(how);
    CHECK_THROWS_WITH_AS(static_cast<void>(pw::named_cut(layers, how, stages)), doctest::Contains(why), pw::error);
  };
  refused("type:blok", 4, "has 0 layers of that type for 4 stages; its types are embedding, block, head");
  refused("4,3,3", 3, "must give each of 3 stages at least one of the model's 14 layers, and all of them");
  refused("4,0,10", 3, "must give each of 3 stages at least one");
  refused("by time", 3, "give uniform, parameters, time, type:NAME, or the number of layers");
  refused("", 3, "give uniform");
  refused("uniform", 15, "15 stages cannot be made of 14 layers");
}
