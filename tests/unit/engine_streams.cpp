// SPDX-License-Identifier: Apache-2.0
// Asynchronous schedules: the oracle's bits, over several drains and evaluations. A sample; all of it is in tests/long.
#include <doctest/doctest.h>

#include <pipewright/pipeline/pipeline.hpp>
#include <support/engine_streams.hpp>

namespace pw = pipewright;

TEST_CASE("every asynchronous schedule trains to the oracle's bits") {
  support::check_streams<double>(0, 5, pw::recompute_mode::never, [](int stages) { return toys::toy_stages<double>(stages); });
}
