// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pipewright::inline v0::safetensors {

/// Where a text stops being UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF); its size where it
/// does not.
[[nodiscard]] inline auto first_that_is_not_utf8(std::string_view text) -> std::size_t {
  auto const byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  for (std::size_t i = 0; i < text.size();) {
    auto const lead = byte(i);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    auto const tail = lead >= 0xF0 ? 3u : lead >= 0xE0 ? 2u : 1u;
    if (lead < 0xC2 || lead > 0xF4 || tail >= text.size() - i) return i;
    auto const second = byte(i + 1);
    auto const least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    auto const most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (second < least || second > most) return i;
    for (auto k = 2u; k <= tail; ++k) {
      if ((byte(i + k) & 0xC0) != 0x80) return i;
    }
    i += tail + 1;
  }
  return text.size();
}

/// Appends a code point below U+110000.
inline void append_utf8(std::uint32_t c, std::string& to) {
  auto const tail = [&](int shift) { to += static_cast<char>(0x80 | (c >> shift & 0x3F)); };
  if (c < 0x80) {
    to += static_cast<char>(c);
  } else if (c < 0x800) {
    to += static_cast<char>(0xC0 | c >> 6);
    tail(0);
  } else if (c < 0x10000) {
    to += static_cast<char>(0xE0 | c >> 12);
    tail(6);
    tail(0);
  } else {
    to += static_cast<char>(0xF0 | c >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

/// A name out of a file as a sentence can show it: what is not printable ASCII becomes '?', and after 80 characters it is cut.
[[nodiscard]] inline auto shown(std::string_view name) -> std::string {
  constexpr auto most = std::size_t{80};
  auto text = std::string(name.substr(0, most));
  for (auto& c : text) {
    if (c < 0x20 || c > 0x7E) c = '?';
  }
  if (name.size() > most) text += "...";
  return text;
}

}  // namespace pipewright::inline v0::safetensors
