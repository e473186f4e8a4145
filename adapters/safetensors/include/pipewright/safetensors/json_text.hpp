// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

namespace pipewright::inline v0::safetensors {

/// A string as JSON writes it, in quotes. The text must be UTF-8.
[[nodiscard]] inline auto in_json(std::string_view text) -> std::string {
  std::string result = "\"";
  for (char const c : text) {
    constexpr auto from = std::string_view("\"\\\b\f\n\r\t");
    if (auto const i = from.find(c); i != std::string_view::npos) {
      result += '\\';
      result += "\"\\bfnrt"[i];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr auto digits = std::string_view("0123456789abcdef");
      result += "\\u00";
      result += digits[static_cast<unsigned char>(c) >> 4];
      result += digits[static_cast<unsigned char>(c) & 15];
    } else {
      result += c;
    }
  }
  return result += '"';
}

}  // namespace pipewright::inline v0::safetensors
