// SPDX-License-Identifier: Apache-2.0
// Linears of the CUDA backend against the host's: with what goes with them done in the product, and apart; and how it is chosen.
// Without a device (on_host/), and on one (tests/gpu).
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include <cuda/buffers.hpp>
#include <doctest/doctest.h>

#include <pipewright/cuda/step_graph.hpp>
#include <pipewright/gpt2/host/backend.hpp>
#include <pipewright/gpt2_cuda/backend.hpp>

namespace {

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
namespace cuda = pipewright::gpt2::cuda;
namespace host = pipewright::gpt2::host;
using cuda::fusion;
using cuda::linears;
using cuda_testing::buffer;
using cuda_testing::difference;
using cuda_testing::numbers;
using cuda_testing::poisoned;
using cuda_testing::rounded;
using cuda_testing::wide;
using pw::cuda::choice;

std::mt19937 engine(9);

/// Numbers that T has.
template<class T> numbers drawn(int rows, int columns, float spread = 1.f) {
  return wide(cuda_testing::drawn<T>(engine, gpt2::row_shape{rows, columns}.size(), spread));
}
template<class T> buffer<T> on_device(numbers const& from) { return cuda_testing::on_device(rounded<T>(from)); }
template<class T> numbers on_host(buffer<T> const& from) { return wide(cuda_testing::on_host(from)); }

/// What the three operations make of the same numbers, on the host and on the device.
template<class T> struct work {
  gpt2::linear_shape s;
  numbers x = drawn<T>(s.rows, s.in), weight = drawn<T>(s.in, s.out, 0.3f), bias = drawn<T>(1, s.out),
          dy = drawn<T>(s.rows, s.out), dw = drawn<float>(s.in, s.out), db = drawn<float>(1, s.out);

  struct results {
    numbers before, y, d_apart, d_in_place, dw, db;
  };

  results by_host() const {
    results r{numbers(dy.size()), numbers(dy.size()), numbers(x.size()), x, dw, db};
    numbers scratch(x.size());
    host::linear_gelu(x.data(), weight.data(), bias.data(), s, r.before.data(), r.y.data());
    host::linear_gelu_backward_input(dy.data(), weight.data(), x.data(), s, scratch.data(), r.d_apart.data());
    r.d_in_place = r.d_apart;
    host::linear_backward_weights(x.data(), dy.data(), s, r.dw.data(), r.db.data());
    return r;
  }
  results by_device() const {
    cuda::backend<T> on;
    auto const here_x = on_device<T>(x), here_weight = on_device<T>(weight), here_bias = on_device<T>(bias),
               here_dy = on_device<T>(dy);
    auto before = poisoned<T>(dy.size()), y = poisoned<T>(dy.size()), d_apart = poisoned<T>(x.size()),
         d_in_place = on_device<T>(x), scratch = poisoned<T>(x.size());
    auto here_dw = on_device<float>(dw), here_db = on_device<float>(db);
    on.linear_gelu(here_x.data(), here_weight.data(), here_bias.data(), s, before.data(), y.data());
    on.linear_gelu_backward_input(here_dy.data(), here_weight.data(), here_x.data(), s, scratch.data(), d_apart.data());
    on.linear_gelu_backward_input(here_dy.data(), here_weight.data(), d_in_place.data(), s, scratch.data(),
                                  d_in_place.data());
    on.linear_backward_weights(here_x.data(), here_dy.data(), s, here_dw.data(), here_db.data());
    return {on_host(before), on_host(y), on_host(d_apart), on_host(d_in_place), on_host(here_dw), on_host(here_db)};
  }
  /// bf16's activations are rounded, gradients of weights are not.
  static void check(results const& found, results const& expected) {
    double const near = cuda_testing::near<T>;
    CHECK(difference(found.before, expected.before) < near);
    CHECK(difference(found.y, expected.y) < near);
    CHECK(difference(found.d_apart, expected.d_apart) < near);
    CHECK(difference(found.d_in_place, expected.d_in_place) < near);
    CHECK(difference(found.dw, expected.dw) < 1e-5);
    CHECK(difference(found.db, expected.db) < 1e-5);
  }
};

#ifndef PIPEWRIGHT_ON_DEVICE
/// Products with something else in them, of all that f() queues.
std::size_t fused_in(auto const& f) {
  auto const before = cuda_on_host::lt_fused;
  f();
  return cuda_on_host::lt_fused - before;
}
#endif

}  // namespace

TEST_CASE_TEMPLATE("linears and what goes with them are the host's, in the product and apart", T, float, cuda::bf16) {
  for (auto const& s : {gpt2::linear_shape{1, 8, 16}, {7, 24, 8}, {130, 16, 40}, {3, 5, 7}, {31, 33, 2}})
    for (auto const how : {fusion::never, fusion::always}) {
      CAPTURE(s.in);
      CAPTURE(static_cast<int>(how));
      pw::cuda::context here;
      here.kept<linears>().fuse(how);
      work<T> const of{s};
      auto const expected = of.by_host();
#ifdef PIPEWRIGHT_ON_DEVICE
      of.check(of.by_device(), expected);
#else
      // The widths of odd ones are not what GELU's need; sums of columns go with any.
      std::size_t const fused = how == fusion::never ? 0 : s.in % 8 == 0 ? 4 : 1;
      CHECK(fused_in([&] { of.check(of.by_device(), expected); }) == fused);
#endif
    }
}

TEST_CASE_TEMPLATE("to try both places changes no result but its rounding", T, float, cuda::bf16) {
  pw::cuda::context here;
  here.kept<pw::cuda::products>().choose(choice::by_timing);
  work<T> const of{{16, 24, 32}};
  for (int i = 0; i < 2; ++i) of.check(of.by_device(), of.by_host());
  auto const& choices = here.kept<linears>().choices();
  REQUIRE(choices.size() == 4);  // GELU's backward in place is one of its own
  CHECK(choices[1].of.what == linears::operation::gelu_backward);
  CHECK(choices[1].of.in_place != choices[2].of.in_place);
}

TEST_CASE("by rule all is done apart") {
  pw::cuda::context here;
  work<cuda::bf16> const of{{16, 24, 32}};
  auto const found = of.by_device();
  for (auto const& each : here.kept<linears>().choices()) CHECK_FALSE(each.fused);
  here.kept<linears>().fuse(fusion::never);
  auto const again = of.by_device();
  CHECK(again.y == found.y);
  CHECK(again.d_in_place == found.d_in_place);
  CHECK(again.dw == found.dw);
  CHECK(again.db == found.db);
}

#ifndef PIPEWRIGHT_ON_DEVICE  // the stand-in's works have times that a test can set

TEST_CASE("the faster place is chosen, and of equals apart") {
  work<float> const of{{16, 24, 32}};
  for (int const works : {1, 2, 3}) {
    CAPTURE(works);
    cuda_on_host::lt_fused_works = works;
    pw::cuda::context here;
    here.kept<pw::cuda::products>().choose(choice::by_timing);
    of.check(of.by_device(), of.by_host());
    std::vector<bool> fused;
    for (auto const& each : here.kept<linears>().choices()) fused.push_back(each.fused);
    // Apart: a product and a kernel, or two for sums. Fused: that many works; in place a copy, with sums a kernel more.
    CHECK(fused == std::vector<bool>{works < 2, works < 2, false, works < 2});
    CHECK(fused_in([&] { of.by_device(); }) == static_cast<std::size_t>(std::ranges::count(fused, true)));
    cuda_on_host::lt_fused_works = 1;
  }
}

TEST_CASE("what cuBLASLt has no product for is done apart") {
  cuda_on_host::lt_fuses = false;
  work<cuda::bf16> const of{{16, 24, 32}};
  for (auto const how : {fusion::always, fusion::where_it_wins}) {
    pw::cuda::context here;
    here.kept<pw::cuda::products>().choose(choice::by_timing);
    here.kept<linears>().fuse(how);
    of.check(of.by_device(), of.by_host());
    for (auto const& each : here.kept<linears>().choices()) CHECK_FALSE(each.fused);
  }
  cuda_on_host::lt_fuses = true;
}

TEST_CASE("nothing is tried while work is written down") {
  pw::cuda::context here;
  here.kept<pw::cuda::products>().choose(choice::by_timing);
  work<float> const of{{16, 24, 32}};
  cuda::backend<float> on;
  auto const x = on_device<float>(of.x), dy = on_device<float>(of.dy);
  auto dw = on_device<float>(of.dw), db = on_device<float>(of.db);
  here.kept<pw::cuda::scratch>().room<float>(1);
  pw::cuda::step_graph graph(here);
  auto const step = [&](auto s) { on.linear_backward_weights(x.data(), dy.data(), s, dw.data(), db.data()); };
  for (int i = 0; i < 2; ++i) graph([&] { step(gpt2::linear_shape{16, 24, 32}); });
  auto const before = cuda_on_host::lt_products;
  graph([&] { step(gpt2::linear_shape{8, 24, 32}); });
  CHECK(cuda_on_host::lt_products - before == 1);
  CHECK_FALSE(here.kept<linears>().choices().back().fused);
}
#endif
