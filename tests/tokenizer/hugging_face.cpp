// SPDX-License-Identifier: Apache-2.0
// The same tokens as Hugging Face's tokenizers makes, for hard texts; fixtures by make_fixtures.py.
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <tokenizer/reference.hpp>

#include <pipewright/tokenizer/byte_pair.hpp>

namespace pw = pipewright;
using pw::tokenizer::byte_pair;

namespace {

using ids = std::vector<std::int32_t>;

auto const fixtures = std::filesystem::path(PIPEWRIGHT_SOURCE_DIR "/tests/tokenizer/fixtures");

auto json_of(std::filesystem::path const& path) -> nlohmann::json {
  auto in = std::ifstream(path);
  return nlohmann::json::parse(in);
}

auto bytes_of(std::string const& hexadecimal) -> std::string {
  std::string bytes;
  for (std::size_t i = 0; i < hexadecimal.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hexadecimal.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

auto all_forms() -> std::vector<byte_pair> {
  auto const folder = fixtures / "folder";
  std::vector<byte_pair> all;
  all.emplace_back(fixtures / "tokenizer.json");
  all.emplace_back(fixtures);
  all.emplace_back(folder);
  all.emplace_back(folder / "vocab.json", folder / "merges.txt");
  return all;
}

}  // namespace

TEST_CASE("hard texts have Hugging Face's tokens") {
  auto const cases = json_of(fixtures / "texts.json");
  REQUIRE(cases["texts"].size() > 400);
  for (auto const& tokenizer : all_forms()) {
    for (auto const& each : cases["texts"]) {
      auto const text = each[0].get<std::string>();
      CAPTURE(text);
      auto const found = tokenizer.encode(text);
      CHECK(found == each[1].get<ids>());
      CHECK(tokenizer.decode(found) == text);
    }
  }
}

TEST_CASE("raw bytes have the tokens of their parts") {
  auto const cases = json_of(fixtures / "texts.json");
  REQUIRE(cases["bytes"].size() > 100);
  auto const tokenizer = byte_pair(fixtures);
  for (auto const& each : cases["bytes"]) {
    CAPTURE(each[0]);
    auto const bytes = bytes_of(each[0]);
    auto const found = tokenizer.encode(bytes);
    CHECK(found == each[1].get<ids>());
    CHECK(tokenizer.decode(found) == bytes);
  }
}

TEST_CASE("tokens have Hugging Face's bytes, whole characters or not") {
  auto const cases = json_of(fixtures / "texts.json");
  REQUIRE(cases["tokens"].size() > 50);
  for (auto const& tokenizer : all_forms()) {
    for (auto const& each : cases["tokens"]) CHECK(tokenizer.decode(each[0].get<ids>()) == bytes_of(each[1]));
  }
}

TEST_CASE("of added tokens the longest is meant, and those of the bare text come first") {
  auto const cases = json_of(fixtures / "texts.json");
  auto const tokenizer = byte_pair(fixtures / "small");
  REQUIRE(cases["overlaps"].size() >= 10);
  for (auto const& each : cases["overlaps"]) {
    auto const text = each[0].get<std::string>();
    CAPTURE(text);
    auto const found = tokenizer.encode(text);
    CHECK(found == each[1].get<ids>());
    CHECK(tokenizer.decode(found) == text);
  }
}

TEST_CASE("every character is of the class that Hugging Face's has it in, as far as both know it") {
  struct release {
    void operator()(pcre2_code_8* code) const { pcre2_code_free_8(code); }
  };
  int fault = 0;
  std::size_t at = 0;
  auto const unassigned = std::unique_ptr<pcre2_code_8, release>(
      pcre2_compile_8(reinterpret_cast<PCRE2_SPTR8>(R"(\p{Cn})"), 6, PCRE2_UTF, &fault, &at, nullptr));
  REQUIRE(unassigned);
  auto cutter = pw::tokenizer::detail::word_cutter();
  auto match = pcre2_match_data_create_8(1, nullptr);

  auto classes = std::string(0x110000, '?');
  auto const fixture = json_of(fixtures / "classes.json");
  for (auto const& row : fixture["ranges"]) {
    for (std::size_t i = 0; i < row.size(); i += 2) {
      auto const first = row[i].get<std::size_t>();
      classes.replace(first, std::string::npos, classes.size() - first, row[i + 1].get<std::string>()[0]);
    }
  }
  auto known = 0, unknown = 0, wrong = 0;
  for (unsigned c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;  // surrogates are no characters
    std::string text;
    auto const tail = [&](int shift) { text += static_cast<char>(0x80 | (c >> shift & 0x3F)); };
    if (c < 0x80) text += static_cast<char>(c);
    else if (c < 0x800) text += static_cast<char>(0xC0 | c >> 6), tail(0);
    else if (c < 0x10000) text += static_cast<char>(0xE0 | c >> 12), tail(6), tail(0);
    else text += static_cast<char>(0xF0 | c >> 18), tail(12), tail(6), tail(0);
    if (classes[c] == 'u' || pcre2_match_8(unassigned.get(), reinterpret_cast<PCRE2_SPTR8>(text.data()), text.size(), 0,
                                           0, match, nullptr) >= 0) {
      ++unknown;
      continue;
    }
    ++known;
    auto found = 's';
    for (auto const* other : {"a", "1", "!"}) {
      auto words = 0;
      cutter.for_each_word(other + text, [&](std::string_view) { ++words; });
      if (words == 1) found = *other == 'a' ? 'l' : *other == '1' ? 'n' : 'o';
    }
    if (found != classes[c]) {
      if (++wrong < 10) MESSAGE("character ", c, " is ", found, " here and ", classes[c], " there");
    }
  }
  pcre2_match_data_free_8(match);
  CHECK(wrong == 0);
  CHECK(known > 280'000);
  MESSAGE(known, " characters known to both, ", unknown, " to one or none");
}

TEST_CASE("UTF-8 is well-formed where Unicode's table 3-7 has it so") {
  std::array<int, 5> count{};
  auto const look = [&](auto... bytes) {
    char const text[] = {static_cast<char>(bytes)...};
    auto const length = pw::tokenizer::detail::character_length({text, sizeof text});
    if (length == sizeof text) ++count[length];
  };
  for (int a = 0; a < 256; ++a) look(a);
  for (int a = 0x80; a < 256; ++a) {
    for (int b = 0x7F; b <= 0xC0; ++b) {
      look(a, b);
      for (int c = 0x7F; c <= 0xC0; ++c) look(a, b, c);
      for (int const c : {0x7F, 0x80, 0xBF, 0xC0}) {
        for (int const d : {0x7F, 0x80, 0xBF, 0xC0}) look(a, b, c, d);
      }
    }
  }
  CHECK(count[1] == 0x80);
  CHECK(count[2] == 0x800 - 0x80);
  CHECK(count[3] == 0x10000 - 0x800 - 0x800);
  CHECK(count[4] == (0x110000 - 0x10000) / 0x1000 * 2 * 2);
}

TEST_CASE("any bytes come back, and long words merge as short ones do") {
  auto const folder = fixtures / "folder";
  auto const text_of = [](std::filesystem::path const& path) {
    auto in = std::ifstream(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  auto const naive = reference::byte_pair(text_of(folder / "vocab.json"), text_of(folder / "merges.txt"));
  auto const tokenizer = byte_pair(folder);
  auto engine = std::mt19937(1);
  for (int i = 0; i < 300; ++i) {
    auto bytes = std::string(engine() % 200, ' ');
    for (auto& each : bytes) {
      each = static_cast<char>(i % 3 == 0   ? engine()
                               : i % 3 == 1 ? "\xea\xb0\x80\x81 a'\n<|"[engine() % 10]
                                            : 0x80 + engine() % 0x80);
    }
    CHECK(tokenizer.decode(tokenizer.encode(bytes)) == bytes);
  }
  for (int i = 0; i < 100; ++i) {
    std::string word;
    for (auto left = engine() % 300 + 1; left > 0; --left) word += "abdefghijlmnoprstu"[engine() % (2 + i % 17)];
    CHECK(tokenizer.encode(word) == naive.encode(word));
  }
}

TEST_CASE("words of millions of bytes take no time that grows with their square") {
  auto const tokenizer = byte_pair(fixtures);
  for (auto const* part : {"a", " ", "\n", "1", "!", "\xea\xb0\x80", "\xff", "' ", "<|endoftext|"}) {
    std::string text;
    while (text.size() < 1'000'000) text += part;
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
    CHECK(tokenizer.decode(tokenizer.encode(text + "x")) == text + "x");
  }
}

TEST_CASE("tokens can be asked for") {
  auto const tokenizer = byte_pair(fixtures);
  CHECK(tokenizer.vocabulary() == 1001);
  CHECK(tokenizer.end_of_text() == 1000);
  CHECK(tokenizer.added_token("<|endoftext|>") == 1000);
  CHECK(!tokenizer.added_token("the"));
  CHECK(tokenizer.bytes(1000) == "<|endoftext|>");
  CHECK(tokenizer.bytes(tokenizer.encode(" the").at(0)) == " the");
  CHECK(tokenizer.decode(ids{-1, 1001, 2'000'000'000, 1000}) == "<|endoftext|>");
  CHECK_THROWS_WITH_AS(static_cast<void>(tokenizer.bytes(1001)), "there is no token 1001 in a vocabulary of 1001",
                       pw::error);
  auto const copy = tokenizer;  // holds nothing of the first
  CHECK(copy.encode("the") == tokenizer.encode("the"));
}
