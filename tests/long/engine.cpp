// SPDX-License-Identifier: Apache-2.0
// Every mixture of the engine's options under every schedule, in double and in single precision.
#include <doctest/doctest.h>
#include <support/engine_matrix.hpp>
#include <support/engine_streams.hpp>

namespace pw = pipewright;

TEST_CASE_TEMPLATE("synchronous schedules", T, double, float) {
  for (auto const mode : pw::recompute_modes) support::check_synchronous<T>(0, 1, mode);
}

TEST_CASE_TEMPLATE("asynchronous schedules", T, double, float) {
  for (auto const mode : pw::recompute_modes) support::check_streams<T>(0, 1, mode);
}
