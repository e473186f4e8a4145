// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <pipewright/error.hpp>
#include <pipewright/safetensors/utf8.hpp>

namespace pipewright::inline v0::safetensors {

/// Reads a JSON text (RFC 8259) from its start, value by value, as its caller expects them; keeps none of it. Throws error
/// at the first thing that is not so, with a sentence that begins with `whose` and names the byte. Values nested deeper than
/// 64 are refused, so that no text exhausts the stack.
class json_reader {
 public:
  /// `text` must outlive the reader.
  json_reader(std::string_view text, std::string whose) : text_(text), whose_(std::move(whose)) {
    if (auto const bad = first_that_is_not_utf8(text); bad != text.size()) {
      at_ = bad;
      fail("the text is not UTF-8");
    }
  }

  [[noreturn]] void fail(std::string_view what) const {
    throw error(whose_ + " is not as it should be at byte " + std::to_string(at_) + ": " + std::string(what) +
                "; make or fetch it anew");
  }

  /// Calls member(key) for each; member reads the value.
  template<class Member>
  void object(Member member) {
    enter('{');
    if (!accept('}')) {
      do {
        auto key = string();
        expect(':');
        member(std::move(key));
      } while (accept(','));
      expect('}');
    }
    --depth_;
  }

  /// Calls element() for each; element reads it.
  template<class Element>
  void list(Element element) {
    enter('[');
    if (!accept(']')) {
      do element();
      while (accept(','));
      expect(']');
    }
    --depth_;
  }

  auto string() -> std::string {
    expect('"');
    std::string result;
    for (;;) {
      auto const run = at_;
      while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' &&
             static_cast<unsigned char>(text_[at_]) >= 0x20) {
        ++at_;
      }
      result.append(text_.substr(run, at_ - run));
      auto const c = next();
      if (c == '"') return result;
      if (c != '\\') fail("a control character in a string");
      escaped(result);
    }
  }

  /// A whole number of 0 to 2^64 - 1, without fraction and exponent.
  auto natural() -> std::uint64_t { return whole<std::uint64_t>("expected a non-negative integer"); }
  /// A whole number, without fraction and exponent.
  auto integer() -> std::int64_t { return whole<std::int64_t>("expected an integer"); }

  auto number() -> double {
    auto const digits = number_text("expected a number");
    auto value = 0.;
    if (std::from_chars(digits.data(), digits.data() + digits.size(), value).ec != std::errc{}) {
      fail("a number is too large or too small");
    }
    return value;
  }

  auto boolean() -> bool {
    if (accept_word("true")) return true;
    if (!accept_word("false")) fail("expected true or false");
    return false;
  }

  /// Takes a null if it stands here.
  auto null() -> bool { return accept_word("null"); }

  /// Passes over a value of any kind.
  void skip() {
    switch (peek()) {
      case '{': return object([this](std::string const&) { skip(); });
      case '[': return list([this] { skip(); });
      case '"': return static_cast<void>(string());
      case 't':
      case 'f': return static_cast<void>(boolean());
      case 'n':
        if (null()) return;
        [[fallthrough]];
      default: static_cast<void>(number_text("expected a value"));
    }
  }

  /// The first character of what comes next, or '\0' at the end: tells kinds of values apart.
  auto peek() -> char {
    pass_space();
    return at_ == text_.size() ? '\0' : text_[at_];
  }

  /// Nothing but white space may follow.
  void end() {
    pass_space();
    if (at_ != text_.size()) fail("text after the end");
  }

 private:
  static constexpr int deepest = 64;

  void pass_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }
  auto next() -> char {
    if (at_ == text_.size()) fail("the text ends early");
    return text_[at_++];
  }
  auto accept(char c) -> bool {
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(std::string("expected ") + c);
  }
  auto accept_word(std::string_view word) -> bool {
    pass_space();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  void enter(char opening) {
    expect(opening);
    if (++depth_ > deepest) fail("values are nested too deeply");
  }

  auto digits() -> bool {
    auto const from = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    return at_ != from;
  }

  auto take(std::string_view any) -> bool {
    if (at_ == text_.size() || any.find(text_[at_]) == std::string_view::npos) return false;
    ++at_;
    return true;
  }

  auto number_text(char const* otherwise) -> std::string_view {
    pass_space();
    auto const from = at_;
    take("-");
    auto const leading_zero = at_ < text_.size() && text_[at_] == '0';
    auto const first = at_;
    if (!digits()) fail(otherwise);
    if (leading_zero && at_ - first > 1) fail("a number with a leading zero");
    if (take(".") && !digits()) fail("a number ends with its point");
    if (take("eE")) {
      take("+-");
      if (!digits()) fail("a number lacks its exponent");
    }
    return text_.substr(from, at_ - from);
  }

  template<class Whole>
  auto whole(char const* otherwise) -> Whole {
    auto const from = (pass_space(), at_);
    auto const digits = number_text(otherwise);
    auto value = Whole{};
    auto const [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (code == std::errc::result_out_of_range) fail("a number is too large");
    if (code != std::errc{} || end != digits.data() + digits.size()) {
      at_ = from;
      fail(otherwise);
    }
    return value;
  }

  void escaped(std::string& to) {
    auto const c = next();
    constexpr auto from = std::string_view("\"\\/bfnrt");
    if (auto const i = from.find(c); i != std::string_view::npos) {
      to += "\"\\/\b\f\n\r\t"[i];
    } else if (c == 'u') {
      append_utf8(code_point(), to);
    } else {
      fail("an unknown escape in a string");
    }
  }

  auto four_digits() -> std::uint32_t {
    auto value = std::uint32_t{0};
    for (int i = 0; i < 4; ++i) {
      auto const digit = std::string_view("0123456789abcdef0123456789ABCDEF").find(next());
      if (digit == std::string_view::npos) fail("expected four hexadecimal digits");
      value = value * 16 + static_cast<std::uint32_t>(digit % 16);
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

  std::string_view text_;
  std::string whose_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace pipewright::inline v0::safetensors
