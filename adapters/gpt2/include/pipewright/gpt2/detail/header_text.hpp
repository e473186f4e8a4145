// SPDX-License-Identifier: Apache-2.0
#pragma once
// The part of JSON that a safetensors header uses: objects of strings, lists of non-negative integers, objects.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pipewright::inline v0::gpt2::detail {

/// What is wrong with a header, and where.
struct header_fault {
  std::string what;
  std::size_t position;
};

/// Reads a header from its start; throws header_fault at the first thing that is not as the format has it.
class header_text {
 public:
  explicit header_text(std::string_view text) : text_(text) {}

  [[noreturn]] void fail(std::string what) const { throw header_fault{std::move(what), at_}; }

  /// Calls member(key) for each; member reads the value.
  template<class Member>
  void object(Member member) {
    expect('{');
    if (accept('}')) return;
    do {
      auto key = string();
      expect(':');
      member(std::move(key));
    } while (accept(','));
    expect('}');
  }

  auto numbers() -> std::vector<std::uint64_t> {
    std::vector<std::uint64_t> all;
    expect('[');
    if (accept(']')) return all;
    do all.push_back(number());
    while (accept(','));
    expect(']');
    return all;
  }

  auto string() -> std::string {
    expect('"');
    std::string result;
    for (;;) {
      auto const c = next();
      if (c == '"') return result;
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
      if (c == '\\') {
        escaped(result);
      } else {
        result += c;
      }
    }
  }

  /// Only spaces may follow (writers pad with them).
  void end() {
    skip();
    if (at_ != text_.size()) fail("text after the header's end");
  }

 private:
  void skip() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }
  auto next() -> char {
    if (at_ == text_.size()) fail("the text ends early");
    return text_[at_++];
  }
  auto accept(char c) -> bool {
    skip();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(std::string("expected ") + c);
  }

  auto number() -> std::uint64_t {
    skip();
    auto const digit = [&] { return at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; };
    if (!digit()) fail("expected a non-negative integer");
    auto value = std::uint64_t{0};
    for (; digit(); ++at_) {
      if (value > (UINT64_MAX - 9) / 10) fail("a number is too large");
      value = value * 10 + static_cast<std::uint64_t>(text_[at_] - '0');
    }
    return value;
  }

  void escaped(std::string& to) {
    auto const c = next();
    constexpr auto from = std::string_view("\"\\/bfnrt");
    if (auto const i = from.find(c); i != std::string_view::npos) {
      to += "\"\\/\b\f\n\r\t"[i];
    } else if (c == 'u') {
      utf8(code_point(), to);
    } else {
      fail("an unknown escape in a string");
    }
  }

  auto four_digits() -> std::uint32_t {
    auto value = std::uint32_t{0};
    for (int i = 0; i < 4; ++i) {
      auto const digit = std::string_view("0123456789abcdef").find(static_cast<char>(next() | 0x20));
      if (digit == std::string_view::npos) fail("expected four hexadecimal digits");
      value = value * 16 + static_cast<std::uint32_t>(digit);
    }
    return value;
  }

  auto code_point() -> std::uint32_t {
    auto const high = four_digits();
    if (high < 0xD800 || high > 0xDFFF) return high;
    if (high > 0xDBFF || next() != '\\' || next() != 'u') fail("half of a surrogate pair");
    auto const low = four_digits();
    if (low < 0xDC00 || low > 0xDFFF) fail("half of a surrogate pair");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  static void utf8(std::uint32_t c, std::string& to) {
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

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace pipewright::inline v0::gpt2::detail
