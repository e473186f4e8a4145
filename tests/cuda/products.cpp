// SPDX-License-Identifier: Apache-2.0
// Matrix products by cuBLASLt: sizes, transposed factors, types, what is kept. Without a device it stands on the host's BLAS
// (on_host/); on one (tests/gpu) it is NVIDIA's.
#include <cmath>
#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/cuda/products.hpp>

namespace {

namespace pw = pipewright;
namespace cuda = pw::cuda;
using bf16 = __nv_bfloat16;

template<class T> T made_of(float v) {
  if constexpr (std::is_same_v<T, float>) return v;
  else return __float2bfloat16_rn(v);
}
float value(float v) { return v; }
float value(bf16 v) { return __bfloat162float(v); }

std::mt19937 engine(3);

template<class T> std::vector<T> drawn(int rows, int columns) {
  std::normal_distribution<float> draw;
  std::vector<T> made(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns));
  for (T& each : made) each = made_of<T>(draw(engine));
  return made;
}
template<class T> cuda::buffer<T> on_device(std::vector<T> const& from) {
  cuda::buffer<T> made;
  made.resize(from.size());
  cuda::upload<T>(from, made.data());
  return made;
}
template<class T> std::vector<T> on_host(cuda::buffer<T> const& from) {
  std::vector<T> made(from.size());
  cuda::download<T>(from.data(), made);
  return made;
}

/// The product in double precision, element by element.
template<class T, class C> void check_product(cuda::products& multiply, cuda::product p, bool adds, bool has_bias) {
  auto const a = p.a_transposed ? drawn<T>(p.k, p.m) : drawn<T>(p.m, p.k),
             b = p.b_transposed ? drawn<T>(p.n, p.k) : drawn<T>(p.k, p.n), bias = drawn<T>(1, p.n);
  auto const before = drawn<C>(p.m, p.n);
  auto const here_a = on_device(a), here_b = on_device(b), here_bias = on_device(bias);
  auto c = on_device(before);
  multiply(p, here_a.data(), here_b.data(), adds ? 1.f : 0.f, c.data(), has_bias ? here_bias.data() : nullptr);
  auto const found = on_host(c);
  double off = 0, all = 0;
  for (int i = 0; i < p.m; ++i)
    for (int j = 0; j < p.n; ++j) {
      double sum = 0;
      for (int l = 0; l < p.k; ++l)
        sum += double{value(p.a_transposed ? a[static_cast<std::size_t>(l * p.m + i)]
                                           : a[static_cast<std::size_t>(i * p.k + l)])} *
               double{value(p.b_transposed ? b[static_cast<std::size_t>(j * p.k + l)]
                                           : b[static_cast<std::size_t>(l * p.n + j)])};
      auto const at = static_cast<std::size_t>(i * p.n + j);
      if (adds) sum += double{value(before[at])};
      if (has_bias) sum += double{value(bias[static_cast<std::size_t>(j)])};
      off += std::pow(double{value(found[at])} - sum, 2);
      all += sum * sum;
    }
  CHECK(std::sqrt(off / all) < (std::is_same_v<C, float> ? 1e-5 : 1e-2));
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
