// SPDX-License-Identifier: Apache-2.0
// Matrix products by cuBLASLt: sizes, transposed factors, types, what is kept. Without a device it stands on the host's BLAS
// (on_host/); on one (tests/gpu) it is NVIDIA's.
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <random>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <cuda/buffers.hpp>
#include <doctest/doctest.h>

#include <pipewright/cuda/products.hpp>

namespace {

namespace pw = pipewright;
namespace cuda = pw::cuda;
using namespace cuda_testing;

std::mt19937 engine(3);

template<class T> std::vector<T> drawn(int rows, int columns) {
  return cuda_testing::drawn<T>(engine, static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns));
}

/// The product in double precision, element by element.
template<class T> std::vector<double> product_of(cuda::product p, std::vector<T> const& a, std::vector<T> const& b) {
  std::vector<double> all;
  for (int i = 0; i < p.m; ++i)
    for (int j = 0; j < p.n; ++j) {
      double sum = 0;
      for (int l = 0; l < p.k; ++l)
        sum += double{wide(a[static_cast<std::size_t>(p.a_transposed ? l * p.m + i : i * p.k + l)])} *
               double{wide(b[static_cast<std::size_t>(p.b_transposed ? j * p.k + l : l * p.n + j)])};
      all.push_back(sum);
    }
  return all;
}
template<class T> struct factors {
  std::vector<T> a, b;
  cuda::buffer<T> here_a, here_b;

  explicit factors(cuda::product p)
      : a{p.a_transposed ? drawn<T>(p.k, p.m) : drawn<T>(p.m, p.k)},
        b{p.b_transposed ? drawn<T>(p.n, p.k) : drawn<T>(p.k, p.n)},
        here_a{on_device(a)},
        here_b{on_device(b)} {}
};

template<class T, class C> void check_product(cuda::products& multiply, cuda::product p, bool adds, bool has_bias) {
  factors<T> const f(p);
  auto const bias = drawn<C>(1, p.n), before = drawn<C>(p.m, p.n);
  auto const here_bias = on_device(bias);
  auto c = on_device(before);
  multiply(p, f.here_a.data(), f.here_b.data(), adds ? 1.f : 0.f, c.data(),
           has_bias ? cuda::epilogue<C>::bias(here_bias.data()) : cuda::epilogue<C>());
  auto expected = product_of(p, f.a, f.b);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (adds) expected[i] += double{wide(before[i])};
    if (has_bias) expected[i] += double{wide(bias[i % static_cast<std::size_t>(p.n)])};
  }
  CHECK(difference(on_host(c), expected) < near<C>);
}

double gelu(double x) { return x / (1 + std::exp(-2 * std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x))); }
double gelu_slope(double x) { return (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5; }

/// Whether it was done. The stand-in must be able to; of NVIDIA's the numbers count, not what it can do.
bool is_done(bool done, [[maybe_unused]] char const* what) {
#ifdef PIPEWRIGHT_ON_DEVICE
  if (!done) MESSAGE("cuBLASLt cannot do in one: ", what);
#else
  CHECK(done);
#endif
  return done;
}

}  // namespace

TEST_CASE("products of all kinds are those of the definition") {
  cuda::context here;
  auto& multiply = here.kept<cuda::products>();
  for (auto const& sizes : {cuda::product{1, 1, 1}, cuda::product{3, 5, 7}, cuda::product{32, 24, 40}})
    for (bool const ta : {false, true})
      for (bool const tb : {false, true})
        for (bool const adds : {false, true}) {
          cuda::product const p{sizes.m, sizes.n, sizes.k, ta, tb};
          check_product<float, float>(multiply, p, adds, !adds);
          check_product<bf16, bf16>(multiply, p, adds, !adds);
          check_product<bf16, float>(multiply, p, adds, false);
        }
}

TEST_CASE_TEMPLATE("GELU in a product, and its backward, are those of the definition", T, float, bf16) {
  cuda::context here;
  auto& multiply = here.kept<cuda::products>();
  for (cuda::product const p : {cuda::product{1, 8, 1}, {3, 16, 7}, {33, 24, 17}, {128, 64, 32}}) {
    CAPTURE(p.m);
    std::size_t const n = static_cast<std::size_t>(p.n), size = static_cast<std::size_t>(p.m) * n;
    {
      factors<T> const f(p);
      auto const bias = drawn<T>(1, p.n);
      auto const here_bias = on_device(bias);
      auto c = poisoned<T>(size), before = poisoned<T>(size);
      if (is_done(multiply.attempt(p, f.here_a.data(), f.here_b.data(), 0.f, c.data(),
                                   cuda::epilogue<T>::gelu(here_bias.data(), before.data())),
                  "GELU")) {
        auto expected = product_of(p, f.a, f.b);
        for (std::size_t i = 0; i < size; ++i) expected[i] += double{wide(bias[i % n])};
        auto const kept = on_host(before);
        CHECK(difference(kept, expected) < near<T>);
        if (std::is_same_v<T, bf16>)  // rounded once
          for (std::size_t i = 0; i < size; ++i)
            CHECK(std::abs(double{wide(kept[i])} - expected[i]) <= std::abs(expected[i]) / 255 + 1e-4);
        for (double& each : expected) each = gelu(each);
        CHECK(difference(on_host(c), expected) < near<T>);
      }
    }
    auto through = p;
    through.b_transposed = true;
    factors<T> const f(through);
    auto const before = drawn<T>(p.m, p.n);
    auto const here_before = on_device(before);
    auto c = poisoned<T>(size);
    if (!is_done(multiply.attempt(through, f.here_a.data(), f.here_b.data(), 0.f, c.data(),
                                  cuda::epilogue<T>::gelu_backward(here_before.data())),
                 "GELU's backward"))
      continue;
    auto expected = product_of(through, f.a, f.b);
    for (std::size_t i = 0; i < size; ++i) expected[i] *= gelu_slope(double{wide(before[i])});
    CHECK(difference(on_host(c), expected) < near<T>);
  }
}

TEST_CASE_TEMPLATE("sums of columns beside a product are fp32, and written, whatever is added to", T, float, bf16) {
  cuda::context here;
  auto& multiply = here.kept<cuda::products>();
  for (cuda::product const p :
       {cuda::product{1, 1, 1, true}, {5, 7, 3, true}, {24, 33, 100, true}, {64, 128, 256, true}})
    for (float const beta : {0.f, 1.f}) {
      CAPTURE(p.m);
      factors<T> const f(p);
      auto const before = drawn<float>(p.m, p.n);
      auto c = on_device(before), sums = poisoned<float>(static_cast<std::size_t>(p.n));
      if (!is_done(multiply.attempt(p, f.here_a.data(), f.here_b.data(), beta, c.data(),
                                    cuda::epilogue<float>::column_sums(sums.data())),
                   "sums of columns"))
        continue;
      auto expected = product_of(p, f.a, f.b);
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += double{beta * before[i]};
      CHECK(difference(on_host(c), expected) < 1e-5);
      std::vector<double> of_columns(static_cast<std::size_t>(p.n));
      for (std::size_t i = 0; i < f.b.size(); ++i) of_columns[i % of_columns.size()] += double{wide(f.b[i])};
      CHECK(difference(on_host(sums), of_columns) < 1e-5);
    }
}

TEST_CASE("products of numbers that are less aligned are computed as others") {
  cuda::context here;
  auto& multiply = here.kept<cuda::products>();
  cuda::product const p{8, 16, 24};
  auto const a = drawn<bf16>(1, 8 * 24 + 8), b = drawn<bf16>(1, 24 * 16 + 8), bias = drawn<bf16>(1, 16 + 8);
  auto const here_a = on_device(a), here_b = on_device(b), here_bias = on_device(bias);
  for (std::ptrdiff_t const by : {0, 8, 1, 2})
    for (std::ptrdiff_t const bias_by : {0, 8, 1}) {
      auto c = poisoned<bf16>(8 * 16 + 8);
      if (!is_done(multiply.attempt(p, here_a.data() + by, here_b.data() + by, 0.f, c.data() + by,
                                    cuda::epilogue<bf16>::bias(here_bias.data() + bias_by)),
                   "numbers at any address"))
        continue;
      auto expected = product_of(p, std::vector(a.begin() + by, a.end()), std::vector(b.begin() + by, b.end()));
      for (std::size_t i = 0; i < expected.size(); ++i)
        expected[i] += double{wide(bias[i % 16 + static_cast<std::size_t>(bias_by)])};
      auto const found = on_host(c);
      CHECK(difference(std::vector(found.begin() + by, found.begin() + by + 8 * 16), expected) < 1e-2);
    }
}

TEST_CASE("what cuBLASLt does not allow beside a product is not tried") {
  cuda::context here;
  auto& multiply = here.kept<cuda::products>();
  cuda::buffer<bf16> const a(64 * 64), b(64 * 64), row(64);
  cuda::buffer<bf16> c(64 * 64), before(64 * 64 + 8);
  cuda::buffer<float> c32(64 * 64), sums(64);
  using also = cuda::epilogue<bf16>;
  auto const can = [&](cuda::product p, also const& what) {
    return multiply.attempt(p, a.data(), b.data(), 0.f, c.data(), what);
  };
  CHECK_FALSE(can({8, 12, 8}, also::gelu(row.data(), before.data())));  // rows of the matrix that are not 16 bytes
  CHECK_FALSE(can({8, 12, 8}, also::gelu_backward(before.data())));
  CHECK_FALSE(can({8, 16, 8}, also::gelu(row.data(), before.data() + 4)));
  CHECK_FALSE(can({8, 16, 8}, also::gelu_backward(before.data() + 4)));
  CHECK_FALSE(multiply.attempt({8, 16, 8, true, true}, a.data(), b.data(), 0.f, c32.data(),
                               cuda::epilogue<float>::column_sums(sums.data())));
#ifndef PIPEWRIGHT_ON_DEVICE
  CHECK(can({8, 16, 8}, also::gelu(row.data(), before.data() + 8)));
  cuda_on_host::lt_fuses = false;
  auto const known = multiply.known(), products = cuda_on_host::lt_products;
  for (int i = 0; i < 2; ++i) CHECK_FALSE(can({16, 16, 8}, also::gelu(row.data(), before.data())));
  cuda_on_host::lt_fuses = true;
  CHECK(multiply.known() == known + 1);  // is remembered
  CHECK(cuda_on_host::lt_products == products);
  CHECK_THROWS_AS(multiply({8, 16, 8}, a.data(), b.data(), 0.f, c.data(), also::gelu_backward(c.data())), pw::error);
#endif
}

TEST_CASE("what a product needs is made once for its sizes and types") {
  cuda::context here;
  auto& multiply = here.kept<cuda::products>();
  check_product<float, float>(multiply, {4, 8, 8}, false, false);
  CHECK(multiply.known() == 1);
  check_product<float, float>(multiply, {4, 8, 8}, false, false);
  CHECK(multiply.known() == 1);
  check_product<float, float>(multiply, {4, 8, 8}, true, false);
  check_product<float, float>(multiply, {8, 8, 4}, true, false);
  check_product<bf16, float>(multiply, {8, 8, 4}, true, false);
  CHECK(multiply.known() == 4);
}

TEST_CASE("to time the ways there are changes no result") {
  cuda::context here;
  auto& multiply = here.kept<cuda::products>();
  multiply.choose(cuda::choice::by_timing);
#ifdef PIPEWRIGHT_ON_DEVICE
  for (cuda::product const p : {cuda::product{64, 128, 256}, {128, 64, 32, true, false}, {64, 64, 512, false, true}})
    for (bool const adds : {true, false}) {
      check_product<float, float>(multiply, p, adds, false);
      check_product<bf16, bf16>(multiply, p, adds, !adds);
      check_product<bf16, float>(multiply, p, adds, false);
    }
#else
  auto const before = cuda_on_host::lt_products;
  check_product<float, float>(multiply, {6, 8, 8}, true, false);
  auto const timed = cuda_on_host::lt_products - before;
  CHECK(timed > 2);
  check_product<float, float>(multiply, {6, 8, 8}, true, false);
  CHECK(cuda_on_host::lt_products - before == timed + 1);
  CHECK(cuda_on_host::lt_reductions == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
  cuda_on_host::lt_broken = 1;  // the heuristic promises nothing
  check_product<float, float>(multiply, {7, 8, 8}, true, false);
  cuda_on_host::lt_broken = 2;
  CHECK_THROWS_AS((check_product<float, float>(multiply, {9, 8, 8}, true, false)), pw::error);
  cuda_on_host::lt_broken = 0;
#endif
}

#ifdef PIPEWRIGHT_ON_DEVICE
TEST_CASE("the same product again and again is the same bits") {
  cuda::context here;
  auto const a = on_device(drawn<bf16>(512, 4096)), b = on_device(drawn<bf16>(4096, 256));
  auto const once = [&] {
    cuda::buffer<float> c(512 * 256);
    here.kept<cuda::products>()({512, 256, 4096}, a.data(), b.data(), 0.f, c.data());
    return on_host(c);
  };
  auto const first = once();
  for (int i = 0; i < 5; ++i) CHECK(once() == first);

  auto const x = on_device(drawn<bf16>(4096, 512));
  auto const with_sums = [&] {
    cuda::buffer<float> c(512 * 256), sums(256);
    here.kept<cuda::products>().attempt({512, 256, 4096, true}, x.data(), b.data(), 1.f, c.data(),
                                        cuda::epilogue<float>::column_sums(sums.data()));
    return std::pair(on_host(c), on_host(sums));
  };
  auto const both = with_sums();
  for (int i = 0; i < 5; ++i) CHECK(with_sums() == both);
}
#else

TEST_CASE("a product that cannot be computed is an error that says which") {
  cuda::context here;
  cuda_on_host::lt_ways = 0;
  cuda::buffer<float> a(6), b(6), c(4);
  std::string said;
  try {
    here.kept<cuda::products>()({2, 2, 3}, a.data(), b.data(), 0.f, c.data());
  } catch (pw::error const& e) {
    said = e.what();
  }
  cuda_on_host::lt_ways = 2;
  CHECK(
      said ==
      "pipewright: cuBLASLt has no way to multiply 2 x 3 by 3 x 2 here; choose sizes that are multiples of 8, or fp32");
}
#endif
