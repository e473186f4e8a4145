// SPDX-License-Identifier: Apache-2.0
#pragma once
// Scalar functions written so that the compiler vectorises the loops around them without relaxing floating
// point: the same bits on every machine that rounds as IEEE 754 says, whatever its libm.
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <pipewright/gpt2/constants.hpp>

namespace pipewright::inline v0::gpt2::host {

/// e^x within 2 units in the last place; x is clamped to [-87, 88], so nothing overflows.
[[nodiscard]] inline auto exp(float x) noexcept -> float {
  constexpr float shift = 12582912.f;  // 1.5 * 2^23: adding it rounds to the nearest integer
  x = std::min(std::max(x, -87.f), 88.f);
  auto const shifted = x * 1.44269504f + shift;
  auto const n = shifted - shift;
  auto const r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  auto p = 1.f / 5040.f;
  p = p * r + 1.f / 720.f;
  p = p * r + 1.f / 120.f;
  p = p * r + 1.f / 24.f;
  p = p * r + 1.f / 6.f;
  p = p * r + 0.5f;
  auto const exponent = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(shift) + 127;
  return ((p * r) * r + r + 1.f) * std::bit_cast<float>(exponent << 23);
}

/// Sum of term(0) .. term(count - 1) in eight interleaved lanes, added in a fixed order: vectorises, and
/// gives the same bits every time.
template<class Term>
[[nodiscard]] inline auto sum(std::size_t count, Term term) noexcept -> float {
  std::array<float, 8> lane{};
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (std::size_t k = 0; k < 8; ++k) lane[k] += term(i + k);
  }
  for (std::size_t k = 0; i + k < count; ++k) lane[k] += term(i + k);
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/// Largest of count >= 1 values.
[[nodiscard]] inline auto largest(std::size_t count, float const* values) noexcept -> float {
  std::array<float, 8> lane;
  lane.fill(values[0]);
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (std::size_t k = 0; k < 8; ++k) lane[k] = std::max(lane[k], values[i + k]);
  }
  for (std::size_t k = 0; i + k < count; ++k) lane[k] = std::max(lane[k], values[i + k]);
  return *std::max_element(lane.begin(), lane.end());
}

/// GPT-2's gelu, and its derivative.
struct gelu {
  [[nodiscard]] static auto value(float x) noexcept -> float {
    return x / (1.f + exp(-gelu_twice_root * (x + gelu_cubic * x * x * x)));
  }
  [[nodiscard]] static auto slope(float x) noexcept -> float {
    auto const s = 1.f / (1.f + exp(-gelu_twice_root * (x + gelu_cubic * x * x * x)));
    return s + x * s * (1.f - s) * gelu_twice_root * (1.f + 3.f * gelu_cubic * x * x);
  }
};

}  // namespace pipewright::inline v0::gpt2::host
