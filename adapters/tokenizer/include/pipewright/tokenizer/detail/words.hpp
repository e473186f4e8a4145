// SPDX-License-Identifier: Apache-2.0
#pragma once
// How GPT-2 cuts a text into the words that its merges never cross.
#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8  // only names that end in _8 are used here, so another choice does as well
#endif
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>

#include <pcre2.h>

#include <pipewright/error.hpp>

namespace pipewright::inline v0::tokenizer::detail {

/// Bytes of the well-formed UTF-8 character that a text, which is not empty, begins with; 0 where it begins with none.
[[nodiscard]] inline auto character_length(std::string_view text) noexcept -> std::size_t {
  auto const first = static_cast<unsigned char>(text[0]);
  auto const continues = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xBF) {
    auto const byte = i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
    return low <= byte && byte <= high;
  };
  if (first < 0x80) return 1;
  if (first < 0xC2) return 0;
  if (first < 0xE0) return continues(1) ? 2 : 0;
  if (first < 0xF0) {  // neither longer than needed nor a surrogate
    return continues(1, first == 0xE0 ? 0xA0 : 0x80, first == 0xED ? 0x9F : 0xBF) && continues(2) ? 3 : 0;
  }
  if (first > 0xF4) return 0;
  return continues(1, first == 0xF0 ? 0x90 : 0x80, first == 0xF4 ? 0x8F : 0xBF) && continues(2) && continues(3) ? 4 : 0;
}

/// Bytes of the well-formed UTF-8 at a text's beginning.
[[nodiscard]] inline auto well_formed_length(std::string_view text) noexcept -> std::size_t {
  std::size_t at = 0;
  while (at < text.size()) {
    if (text.size() - at >= sizeof(std::uint64_t)) {  // ASCII, eight at a time
      std::uint64_t eight;
      std::memcpy(&eight, text.data() + at, sizeof eight);
      if ((eight & 0x8080'8080'8080'8080u) == 0) {
        at += sizeof eight;
        continue;
      }
    }
    auto const length = character_length(text.substr(at));
    if (length == 0) break;
    at += length;
  }
  return at;
}

/// GPT-2's pattern, compiled once in a process; any number of threads may match with it.
[[nodiscard]] inline auto word_pattern() -> pcre2_code_8 const* {
  struct release {
    void operator()(pcre2_code_8* code) const noexcept { pcre2_code_free_8(code); }
  };
  static auto const shared = [] {
  // White_Space, spelt out: PCRE's \s has U+180E besides, which Unicode took out in 6.3.
#define PIPEWRIGHT_SPACES R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})"
    static constexpr char pattern[] =
        R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{L}\p{N})" PIPEWRIGHT_SPACES R"(]+|[)" PIPEWRIGHT_SPACES
        R"(]+(?![^)" PIPEWRIGHT_SPACES R"(])|[)" PIPEWRIGHT_SPACES R"(]+)";
#undef PIPEWRIGHT_SPACES
    int fault = 0;
    std::size_t at = 0;
    auto code = std::unique_ptr<pcre2_code_8, release>(
        pcre2_compile_8(reinterpret_cast<PCRE2_SPTR8>(pattern), sizeof pattern - 1,
                        PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_NO_START_OPTIMIZE, &fault, &at, nullptr));
    if (!code) throw error("PCRE2 cannot compile GPT-2's word pattern; it must be built with Unicode support");
    pcre2_jit_compile_8(code.get(), PCRE2_JIT_COMPLETE);  // where there is no JIT the interpreter finds the same
    return code;
  }();
  return shared.get();
}

/// Cuts texts into words. One for each thread; it holds what a match needs.
class word_cutter {
 public:
  word_cutter() : match_(pcre2_match_data_create_8(1, nullptr)) {
    if (!match_) throw std::bad_alloc();
  }

  /// Calls use(word) for the words of any bytes, in order: GPT-2's words of each stretch of well-formed UTF-8, taken by
  /// itself, and between them each run of the bytes that belong to no well-formed character.
  template<class Use>
  void for_each_word(std::string_view text, Use use) {
    while (!text.empty()) {
      auto const good = well_formed_length(text);
      for (std::size_t at = 0; at < good;) {
        auto const end = word_end(text.substr(0, good), at);
        use(text.substr(at, end - at));
        at = end;
      }
      text.remove_prefix(good);
      std::size_t bad = 0;
      while (bad < text.size() && character_length(text.substr(bad)) == 0) ++bad;
      if (bad > 0) use(text.substr(0, bad));
      text.remove_prefix(bad);
    }
  }

 private:
  [[nodiscard]] auto word_end(std::string_view text, std::size_t at) -> std::size_t {
    auto const found = pcre2_match_8(pattern_, reinterpret_cast<PCRE2_SPTR8>(text.data()), text.size(), at,
                                     PCRE2_NO_UTF_CHECK, match_.get(), nullptr);
    auto const end = found < 0 ? 0 : pcre2_get_ovector_pointer_8(match_.get())[1];
    if (end > at) return end;
    throw error("PCRE2 found no word at byte " + std::to_string(at) + " of a text of " + std::to_string(text.size()) +
                " bytes (its error " + std::to_string(found) + "); please report the text");
  }

  struct release {
    void operator()(pcre2_match_data_8* match) const noexcept { pcre2_match_data_free_8(match); }
  };
  pcre2_code_8 const* pattern_ = word_pattern();
  std::unique_ptr<pcre2_match_data_8, release> match_;
};

}  // namespace pipewright::inline v0::tokenizer::detail
