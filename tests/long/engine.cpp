// SPDX-License-Identifier: Apache-2.0
// Every mixture of the engine's options under every schedule, in double and in single precision.
#include <doctest/doctest.h>
#include <support/engine_matrix.hpp>
#include <support/engine_streams.hpp>

#include <pipewright/pipeline/pipeline.hpp>

namespace pw = pipewright;

namespace {
template<class T> auto plain = [](int stages) { return toys::toy_stages<T>(stages); };
template<class T, pw::recompute_mode Mode> auto marked = [](int stages) {
  return pw::recompute_each<Mode>(toys::toy_stages<T>(stages));
};
}  // namespace

TEST_CASE_TEMPLATE("synchronous schedules", T, double, float) {
  support::check_synchronous<T>(0, 1, pw::recompute_mode::never, plain<T>);
  support::check_synchronous<T>(0, 1, pw::recompute_mode::always, marked<T, pw::recompute_mode::always>);
  support::check_synchronous<T>(0, 1, pw::recompute_mode::except_last, marked<T, pw::recompute_mode::except_last>);
}

TEST_CASE_TEMPLATE("asynchronous schedules", T, double, float) {
  support::check_streams<T>(0, 1, pw::recompute_mode::never, plain<T>);
  support::check_streams<T>(0, 1, pw::recompute_mode::always, marked<T, pw::recompute_mode::always>);
  support::check_streams<T>(0, 1, pw::recompute_mode::except_last, marked<T, pw::recompute_mode::except_last>);
}
