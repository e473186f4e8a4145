// SPDX-License-Identifier: Apache-2.0
// Recomputation changes no bit: the oracle, with which all is compared, keeps everything. A sample; the rest is in tests/long.
// sanitizers: --full
#include <doctest/doctest.h>
#include <support/engine_matrix.hpp>
#include <support/engine_streams.hpp>

#include <pipewright/pipeline/pipeline.hpp>

namespace pw = pipewright;

namespace {
template<pw::recompute_mode Mode> auto marked = [](int stages) {
  return pw::recompute_each<Mode>(toys::toy_stages<double>(stages));
};
}  // namespace

TEST_CASE("recomputing all") {
  support::check_synchronous<double>(2, 7, pw::recompute_mode::always, marked<pw::recompute_mode::always>);
  support::check_streams<double>(1, 11, pw::recompute_mode::always, marked<pw::recompute_mode::always>);
}

TEST_CASE("recomputing all but a batch's last micro-batch") {
  support::check_synchronous<double>(5, 7, pw::recompute_mode::except_last, marked<pw::recompute_mode::except_last>);
  support::check_streams<double>(4, 11, pw::recompute_mode::except_last, marked<pw::recompute_mode::except_last>);
}
