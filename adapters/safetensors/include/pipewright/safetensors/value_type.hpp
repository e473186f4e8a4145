// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace pipewright::inline v0::safetensors {

/// The types of values that a file may hold, in the order in which the format's own writer sorts them: the last first, so
/// that every tensor is aligned.
enum class value_type { boolean, u8, i8, f8_e5m2, f8_e4m3, i16, u16, f16, bf16, i32, u32, f32, f64, i64, u64 };

namespace detail {
struct value_type_row {
  std::string_view name;
  std::size_t bytes;
};
inline constexpr auto value_types = std::array<value_type_row, 15>{{{"BOOL", 1},
                                                                    {"U8", 1},
                                                                    {"I8", 1},
                                                                    {"F8_E5M2", 1},
                                                                    {"F8_E4M3", 1},
                                                                    {"I16", 2},
                                                                    {"U16", 2},
                                                                    {"F16", 2},
                                                                    {"BF16", 2},
                                                                    {"I32", 4},
                                                                    {"U32", 4},
                                                                    {"F32", 4},
                                                                    {"F64", 8},
                                                                    {"I64", 8},
                                                                    {"U64", 8}}};
}  // namespace detail

/// The format's name of a type: "F32".
[[nodiscard]] constexpr auto name_of(value_type t) noexcept -> std::string_view {
  return detail::value_types[static_cast<std::size_t>(t)].name;
}
/// Bytes of one value.
[[nodiscard]] constexpr auto size_of(value_type t) noexcept -> std::size_t {
  return detail::value_types[static_cast<std::size_t>(t)].bytes;
}
/// The type of that name, if the format has it.
[[nodiscard]] constexpr auto value_type_named(std::string_view name) noexcept -> std::optional<value_type> {
  for (std::size_t i = 0; i < detail::value_types.size(); ++i) {
    if (detail::value_types[i].name == name) return static_cast<value_type>(i);
  }
  return std::nullopt;
}

/// The value of IEEE 754 half-precision bits, exact.
[[nodiscard]] constexpr auto from_half(std::uint16_t bits) noexcept -> float {
  auto const sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  auto const exponent = static_cast<std::uint32_t>(bits >> 10 & 31u);
  auto const fraction = static_cast<std::uint32_t>(bits & 1023u);
  if (exponent == 0) return (sign != 0 ? -1.f : 1.f) * static_cast<float>(fraction) * 0x1p-24f;
  auto const wide = exponent == 31 ? 255u : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}
/// The value of bfloat16 bits, exact.
[[nodiscard]] constexpr auto from_bfloat(std::uint16_t bits) noexcept -> float {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

}  // namespace pipewright::inline v0::safetensors
