// SPDX-License-Identifier: Apache-2.0
#pragma once
// GPT-2's alphabet of bytes: how a vocabulary file, which is text, writes tokens, which are bytes. A byte that prints in
// Latin-1 is the character of the same number; the 68 others are the characters from U+0100 on, in order.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pipewright::inline v0::tokenizer::detail {

struct byte_alphabet {
  std::array<std::uint16_t, 256> letters{};    ///< by byte
  std::array<std::int16_t, 256 + 68> bytes{};  ///< by letter; -1 where there is none

  constexpr byte_alphabet() {
    bytes.fill(-1);
    auto next = std::uint16_t{256};
    for (std::uint16_t byte = 0; byte < 256; ++byte) {
      auto const prints = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
      letters[byte] = prints ? byte : next++;
      bytes[letters[byte]] = static_cast<std::int16_t>(byte);
    }
  }
};
inline constexpr byte_alphabet alphabet;

/// A byte's letter, in UTF-8.
[[nodiscard]] inline auto letter_of(unsigned char byte) -> std::string {
  auto const letter = alphabet.letters[byte];
  if (letter < 128) return {static_cast<char>(letter)};
  return {static_cast<char>(0xC0 | letter >> 6), static_cast<char>(0x80 | (letter & 0x3F))};
}

/// The bytes that a token's letters stand for; nothing where it has a character that is no letter.
[[nodiscard]] inline auto bytes_of(std::string_view token) -> std::optional<std::string> {
  std::string result;
  for (std::size_t i = 0; i < token.size(); ++i) {
    auto letter = static_cast<unsigned>(static_cast<unsigned char>(token[i]));
    if (letter >= 128) {
      if (letter < 0xC2 || letter > 0xDF || i + 1 == token.size()) return std::nullopt;
      letter = (letter & 0x1F) << 6 | (static_cast<unsigned char>(token[++i]) & 0x3F);
    }
    if (letter >= alphabet.bytes.size() || alphabet.bytes[letter] < 0) return std::nullopt;
    result += static_cast<char>(alphabet.bytes[letter]);
  }
  return result;
}

}  // namespace pipewright::inline v0::tokenizer::detail
