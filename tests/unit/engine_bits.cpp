// SPDX-License-Identifier: Apache-2.0
// Losses, norms and weights have the same bits under every synchronous schedule, on every number of ranks, as by the oracle on
// one; those of asynchronous schedules are the oracle's of their own recurrences. Recomputation changes none of them: the oracle
// keeps everything. A sample of the mixtures of options; all of them are in tests/long.
#include <doctest/doctest.h>
#include <support/engine_matrix.hpp>
#include <support/engine_streams.hpp>

namespace pw = pipewright;

TEST_CASE("every synchronous schedule trains to the same bits") {
  support::check_synchronous<double>(1, 5, pw::recompute_mode::never);
}

TEST_CASE("every asynchronous schedule trains to the oracle's bits, over drains and evaluations") {
  support::check_streams<double>(0, 5, pw::recompute_mode::never);
}

TEST_CASE("recomputing all") {
  support::check_synchronous<double>(2, 7, pw::recompute_mode::always);
  support::check_streams<double>(1, 11, pw::recompute_mode::always);
}

TEST_CASE("recomputing all but a batch's last micro-batch") {
  support::check_synchronous<double>(5, 7, pw::recompute_mode::except_last);
  support::check_streams<double>(4, 11, pw::recompute_mode::except_last);
}
