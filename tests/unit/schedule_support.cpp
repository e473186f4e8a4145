// SPDX-License-Identifier: Apache-2.0
// The tests' own tools: a macro, a reader and a timeline that are wrong would make every other test worthless.
#include <stdexcept>
#include <type_traits>
#include <utility>

#include <support/exact_timeline.hpp>
#include <support/order_rules.hpp>
#include <support/twice.hpp>

namespace pw = pipewright;
using support::fraction;

namespace {
/// True in the compiler and in the program, where it also counts.
int runs = 0;
constexpr bool counted() {
  if (!std::is_constant_evaluated()) ++runs;
  return true;
}
}  // namespace

TEST_CASE("PIPEWRIGHT_TWICE runs in the compiler and in the program") {
  PIPEWRIGHT_TWICE(counted());
  PIPEWRIGHT_TWICE(std::pair{counted(), 1} == std::pair{true, 1});  // commas are welcome
  CHECK_EQ(runs, 2);
}

TEST_CASE("golden texts are read, written back and refused") {
  auto const o = support::read_order("12F0 3B17 0I2 0W2");
  REQUIRE_EQ(o.size(), 4U);
  CHECK(o[0] == pw::forward(12, 0));
  CHECK(o[1] == pw::backward(3, 17));
  CHECK(o[2] == pw::backward_input(0, 2));
  CHECK(o[3] == pw::backward_weight(0, 2));
  CHECK_EQ(support::write_order(o), "12F0 3B17 0I2 0W2");
  CHECK(support::read_order("F0 B1", 5) == support::order{pw::forward(5, 0), pw::backward(5, 1)});
  CHECK_THROWS_AS(support::read_order("F0"), std::runtime_error);
  CHECK_THROWS_AS(support::read_order("0X0"), std::runtime_error);
  CHECK_THROWS_AS(support::read_order("0F"), std::runtime_error);
}

TEST_CASE("the exact timeline on orders worked out by hand") {
  // Rank 0: F0 [0,1] F1 [1,2], waits, B0 [4,6] B1 [7,9].  Rank 1: F0 [1,2] B0 [2,4] F1 [4,5] B1 [5,7].
  support::orders const two{support::read_order("0F0 0F1 0B0 0B1"), support::read_order("1F0 1B0 1F1 1B1")};
  auto const line = support::run_timeline<fraction>(two, {0, 1}, 2, {1, 1, 1, 0});
  REQUIRE(line);
  CHECK(line->makespan == fraction{9});
  CHECK(line->start[1] == fraction{1});
  CHECK(line->end[1] == fraction{7});
  CHECK(line->busy[0] == fraction{6});
  CHECK(line->longest_rank() == fraction{9});
  // An edge's latency of 1/2: F0 reaches rank 1 at 3/2, its gradient is made at 9/2 and back at 5.
  auto const late = support::run_timeline<fraction>(two, {0, 1}, 2, {1, 1, 1, fraction(1, 2)});
  REQUIRE(late);
  CHECK(late->makespan == fraction{10});
  // One rank: an edge within a rank costs nothing.
  auto const one =
      support::run_timeline<fraction>({support::read_order("0F0 1F0 1B0 0I0 0W0")}, {0, 0}, 1, {1, 1, 1, 5});
  REQUIRE(one);
  CHECK(one->makespan == fraction{6});
  // Each waits for the other.
  CHECK_FALSE(support::run_timeline<int>(
      {support::read_order("0F0 0B0 0F1 0B1"), support::read_order("1F0 1F1 1B0 1B1")}, {0, 1}, 2, {1, 1, 1, 0}));
}
