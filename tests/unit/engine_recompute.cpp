// SPDX-License-Identifier: Apache-2.0
// Synchronous schedules with recomputation: the bits of a run that keeps everything. A sample; the rest is in tests/long.
#include <doctest/doctest.h>

#include <pipewright/pipeline/pipeline.hpp>
#include <support/engine_matrix.hpp>

namespace pw = pipewright;

namespace {
template<pw::recompute_mode Mode> auto marked = [](int stages) { return pw::recompute_each<Mode>(toys::toy_stages<double>(stages)); };
}

TEST_CASE("recomputing all changes no bit") {
  support::check_synchronous<double>(2, 7, pw::recompute_mode::always, marked<pw::recompute_mode::always>);
}

TEST_CASE("recomputing all but the last micro-batch changes no bit") {
  support::check_synchronous<double>(5, 7, pw::recompute_mode::except_last, marked<pw::recompute_mode::except_last>);
}
