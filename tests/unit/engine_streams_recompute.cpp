// SPDX-License-Identifier: Apache-2.0
// Asynchronous schedules with recomputation: the bits of the oracle, which keeps everything.
#include <doctest/doctest.h>

#include <pipewright/pipeline/pipeline.hpp>
#include <support/engine_streams.hpp>

namespace pw = pipewright;

namespace {
template<pw::recompute_mode Mode> auto marked = [](int stages) { return pw::recompute_each<Mode>(toys::toy_stages<double>(stages)); };
}

TEST_CASE("recomputing all changes no bit") {
  support::check_streams<double>(1, 11, pw::recompute_mode::always, marked<pw::recompute_mode::always>);
}

TEST_CASE("recomputing all but the last micro-batch of a batch changes no bit") {
  support::check_streams<double>(4, 11, pw::recompute_mode::except_last, marked<pw::recompute_mode::except_last>);
}
