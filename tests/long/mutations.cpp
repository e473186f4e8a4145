// SPDX-License-Identifier: Apache-2.0
// The full number of single-fault mutants; the sample of every run is in tests/unit/mutations.cpp.
#include <support/mutation_run.hpp>

TEST_CASE("mutants of plans that end, half a million") {
  auto const counts = support::judge_random_plans(1, 1'500, 3, 6, 9);
  MESSAGE(counts.table());
  CHECK_GE(counts.all().mutants, 500'000);
  CHECK_EQ(counts.disagreements, 0);
}

TEST_CASE("mutants of streams, fifty thousand") {
  auto const counts = support::judge_random_streams(2, 700, 2, 5, 5);
  MESSAGE(counts.table());
  CHECK_GE(counts.all().mutants, 50'000);
  CHECK_EQ(counts.disagreements, 0);
}
