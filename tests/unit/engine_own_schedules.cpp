// SPDX-License-Identifier: Apache-2.0
// Schedules that the library does not ship: split backwards, descending backwards, another placement. On dyadic scalars no
// order of a sum changes it, so all of them come to the same numbers.
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/pipeline/pipeline.hpp>
#include <support/more_schedules.hpp>
#include <support/scalar_model.hpp>
#include <support/train.hpp>

namespace pw = pipewright;

namespace {

// Small dyadic numbers: every sum is exact.
auto batches = [](int number) { return toys::scalar_batch{{1, 0.5, 0.25, 2, 1, 0.5, 1}, number}; };

template<class Policy> void check(int ranks, int micro_batches, int chunks, pw::needs wants = {}, bool evaluates = true) {
  CAPTURE(ranks);
  CAPTURE(micro_batches);
  support::run_of const run{.calls = evaluates ? "sse" : "ss"};
  int const stages = ranks * chunks;
  std::vector<double> initial(static_cast<std::size_t>(stages), 1);
  initial.front() = 0.5;
  toys::scalar_model const set{initial};
  pw::shape const shape{.ranks = ranks, .micro_batches = micro_batches, .chunks = chunks};
  auto const expected = support::train_serially(pw::weight_rule::synchronous, shape, set, batches, pw::sgd{.rate = 0.125}, run);
  auto const plan = pw::make_plan<Policy>(shape, wants);
  auto const found = support::train_in_pipeline<double>(plan.view(), set, batches, pw::sgd{.rate = 0.125}, run);
  CHECK(found.losses == expected.losses);
  CHECK(found.evaluations == expected.evaluations);
  CHECK(found.weights == expected.weights);
}

}  // namespace

TEST_CASE("descending backwards") {
  for (int ranks = 1; ranks <= 4; ++ranks)
    for (int m : {1, 2, 4}) check<support::descending_gpipe>(ranks, m, 1);
}

TEST_CASE("split backwards, the weight gradients late") {
  for (int ranks = 1; ranks <= 4; ++ranks)
    for (int m : {1, 2, 4}) check<support::zero_bubble_h1>(ranks, m, 1);
}

TEST_CASE("a V-shaped placement, the loss on the first rank") {
  for (int ranks = 1; ranks <= 3; ++ranks)
    for (int m : {1, 2, 4}) check<support::breadth_first_v>(ranks, m, 2, {}, ranks == 1);
}

TEST_CASE("evaluation under a placement that it does not have is refused") {
  CHECK_THROWS_WITH_AS(check<support::breadth_first_v>(2, 2, 2, {}, true), doctest::Contains("loop placement"), pw::error);
}
