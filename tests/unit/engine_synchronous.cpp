// SPDX-License-Identifier: Apache-2.0
// Synchronous schedules: losses, norms and weights have the same bits under every schedule, on every number of ranks, as by
// the oracle on one. A sample of the mixtures of options; all of them are in tests/long.
#include <doctest/doctest.h>

#include <pipewright/pipeline/pipeline.hpp>
#include <support/engine_matrix.hpp>

namespace pw = pipewright;

TEST_CASE("every synchronous schedule trains to the same bits") {
  support::check_synchronous<double>(1, 5, pw::recompute_mode::never, [](int stages) { return toys::toy_stages<double>(stages); });
}
