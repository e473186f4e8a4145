// SPDX-License-Identifier: Apache-2.0
#pragma once
// Numbers of either type on the host: drawn at random, and compared as norms. For g++ and nvcc.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include <cuda_bf16.h>
#include <doctest/doctest.h>

namespace cuda_testing {

using bf16 = __nv_bfloat16;
using numbers = std::vector<float>;

template<class T> T rounded(float v) {
  if constexpr (std::is_same_v<T, float>) return v;
  else return __float2bfloat16_rn(v);
}
inline double wide(double v) { return v; }
inline float wide(float v) { return v; }
inline float wide(bf16 v) { return __bfloat162float(v); }

template<class T> std::vector<T> rounded(numbers const& from) {
  std::vector<T> all;
  for (float const v : from) all.push_back(rounded<T>(v));
  return all;
}
template<class T> numbers wide(std::vector<T> const& from) {
  numbers all;
  for (T const v : from) all.push_back(wide(v));
  return all;
}
template<class T> std::vector<T> drawn(std::mt19937& engine, std::size_t n, float spread = 1.f, float about = 0.f) {
  std::normal_distribution<float> draw(about, spread);
  std::vector<T> all;
  for (std::size_t i = 0; i < n; ++i) all.push_back(rounded<T>(draw(engine)));
  return all;
}
template<class T> std::vector<T> not_numbers(std::size_t n) {
  return std::vector<T>(n, rounded<T>(std::numeric_limits<float>::quiet_NaN()));
}

/// The norm of the difference over the norm of what is expected.
template<class T, class Expected>
double difference(std::vector<T> const& found, std::vector<Expected> const& expected) {
  REQUIRE(found.size() == expected.size());
  double off = 0, all = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    double const f = wide(found[i]), e = wide(expected[i]);
    off += (f - e) * (f - e);
    all += e * e;
  }
  if (!std::isfinite(off)) return off;
  return std::sqrt(off / std::max(all, 1e-30));
}
/// What it may be.
template<class T> constexpr double near = std::is_same_v<T, float> ? 1e-5 : 1e-2;

template<class T> bool same_bits(std::vector<T> const& a, std::vector<T> const& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace cuda_testing
