// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cmath>
#include <string>
#include <string_view>

#include <pipewright/schedule/notation.hpp>

/// How traces write numbers, names and foreign text, whatever the locale.
namespace pipewright::inline v0::trace_text {

/// At most `decimals` decimals, no trailing zeros: 2, 0.25, -3.125. Not finite: 0 (neither XML nor JSON has a word for it).
inline std::string number(double value, int decimals = 3) {
  char digits[400];
  if (!std::isfinite(value)) value = 0;
  auto const [end, code] = std::to_chars(digits, digits + sizeof digits, value, std::chars_format::fixed, decimals);
  std::string text(digits, code == std::errc{} ? end : digits);
  if (text.find('.') != text.npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return text == "-0" || text.empty() ? "0" : text;
}

/// A share as per cent with one decimal, "27.3 %".
inline std::string percent(double share) { return number(100 * share, 1) + " %"; }

/// What an action is, in a word.
constexpr std::string_view words(kind k) {
  switch (k) {
    case kind::forward: return "forward";
    case kind::backward: return "backward";
    case kind::backward_input: return "input gradient";
    case kind::backward_weight: return "weight gradient";
    case kind::recompute: return "recompute";
    case kind::update: return "update";
    default: return is_send(k) ? "send" : is_wait(k) ? "wait" : is_post(k) || is_receive(k) ? "receive" : "other";
  }
}

/// Whether a text is UTF-8 from `at` on for one character; its length in bytes, or 0.
inline std::size_t character_length(std::string_view text, std::size_t at) {
  auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  unsigned const lead = byte(at);
  if (lead < 0x80) return 1;
  std::size_t const length = lead >= 0xC2 && lead < 0xE0   ? 2
                             : lead >= 0xE0 && lead < 0xF0 ? 3
                             : lead >= 0xF0 && lead < 0xF5 ? 4
                                                           : 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  unsigned const second = byte(at + 1);
  bool const overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  bool const beyond = (lead == 0xED && second >= 0xA0) || (lead == 0xF4 && second >= 0x90);
  return overlong || beyond ? 0 : length;
}

/// Text inside XML elements and attributes. Bytes that XML cannot hold become '?'.
inline std::string xml(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t const length = character_length(text, i);
    char const c = text[i];
    if (length != 1) result += length == 0 ? std::string_view("?") : text.substr(i, length);
    else if (c == '&') result += "&amp;";
    else if (c == '<') result += "&lt;";
    else if (c == '>') result += "&gt;";
    else if (c == '"') result += "&quot;";
    else if (c == '\'') result += "&apos;";
    else result += c >= ' ' || c == '\t' || c == '\n' ? c : '?';
    i += length == 0 ? 1 : length;
  }
  return result;
}

/// A JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD.
inline std::string json(std::string_view text) {
  constexpr std::string_view hexadecimal = "0123456789abcdef";
  std::string result = "\"";
  for (std::size_t i = 0; i < text.size();) {
    std::size_t const length = character_length(text, i);
    char const c = text[i];
    if (length == 0) {
      result += "\\ufffd";
    } else if (length > 1) {
      result += text.substr(i, length);
    } else if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (c >= 0 && c < ' ') {
      result += "\\u00";
      result += hexadecimal[static_cast<unsigned>(c) >> 4];
      result += hexadecimal[static_cast<unsigned>(c) & 15];
    } else {
      result += c;
    }
    i += length == 0 ? 1 : length;
  }
  return result + '"';
}

}  // namespace pipewright::inline v0::trace_text
