// SPDX-License-Identifier: Apache-2.0
// Losses, norms and weights have the same bits under every synchronous schedule, on every number of ranks, as by the oracle on
// one; those of asynchronous schedules are the oracle's of their own recurrences. A sample of the mixtures of options; all of
// them are in tests/long.
#include <doctest/doctest.h>
#include <support/engine_matrix.hpp>
#include <support/engine_streams.hpp>

#include <pipewright/pipeline/pipeline.hpp>

namespace pw = pipewright;

namespace {
auto const stages = [](int number) { return toys::toy_stages<double>(number); };
}  // namespace

TEST_CASE("every synchronous schedule trains to the same bits") {
  support::check_synchronous<double>(1, 5, pw::recompute_mode::never, stages);
}

TEST_CASE("every asynchronous schedule trains to the oracle's bits, over drains and evaluations") {
  support::check_streams<double>(0, 5, pw::recompute_mode::never, stages);
}
