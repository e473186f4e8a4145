// SPDX-License-Identifier: Apache-2.0
#pragma once
// Numbers of CUDA's bf16 type: the upper half of an fp32 number, rounded to the nearest, to the even one of two.
#include <cmath>
#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
  std::uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 from) {
  std::uint32_t const bits = std::uint32_t{from.bits} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline __nv_bfloat16 __float2bfloat16_rn(float from) {
  if (std::isnan(from)) return {0x7fff};
  std::uint32_t bits;
  std::memcpy(&bits, &from, sizeof bits);
  return {static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
