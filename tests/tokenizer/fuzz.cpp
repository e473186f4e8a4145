// SPDX-License-Identifier: Apache-2.0
// No damage to a tokenizer's files does worse than a sentence.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <gpt2/fuzz.hpp>
#include <nlohmann/json.hpp>
#include <tokenizer/reference.hpp>

#include <pipewright/tokenizer/byte_pair.hpp>

namespace pw = pipewright;
using pw::tokenizer::byte_pair;

namespace {

auto const fixtures = std::filesystem::path(PIPEWRIGHT_SOURCE_DIR "/tests/tokenizer/fixtures");

/// Each one word of GPT-2's.
std::vector<std::string> const words = {
    "The",    " pipeline", " filled",  " stages", "\n",
    " 65536", " micro",    "-",        "ing",     " \xed\x8c\x8c\xec\x9d\xb4\xed\x94\x84",
    " ...",   "'s",        "abababab", "\xff\xfe"};

/// Whether words have the tokens that the files, read another way, give them, and all bytes come back.
auto right(reference::byte_pair const& expected, byte_pair const& found) -> bool {
  for (auto const& word : words) {
    auto const tokens = found.encode(word);
    if (found.decode(tokens) != word) return false;
    // A text within the word that became an added token is none of the reference's business.
    auto const added =
        std::ranges::any_of(tokens, [&](auto id) { return found.added_token(found.bytes(id)).has_value(); });
    if (!added && tokens != expected.encode(word)) return false;
  }
  auto all = std::string("<|endoftext|>") + '\0';
  for (int byte = 255; byte >= 0; --byte) all += static_cast<char>(byte);
  return found.decode(found.encode(all)) == all;
}

/// The fixture's small vocabulary, in two files.
struct two_files {
  std::string vocabulary, merges = "#version: 0.2\n";
  two_files() {
    auto const all = nlohmann::json::parse(fuzz::bytes_of(fixtures / "small/tokenizer.json"));
    vocabulary = all["model"]["vocab"].dump();
    for (auto const& merge : all["model"]["merges"]) {
      merges += merge[0].get<std::string>() + " " + merge[1].get<std::string>() + "\n";
    }
  }
};

}  // namespace

TEST_CASE("damaged vocab.json") {
  auto const in = fuzz::folder();
  auto const good = two_files();
  std::ofstream(in.path / "merges.txt", std::ios::binary) << good.merges;
  auto const all = fuzz::run(
      in.path / "vocab.json", good.merges.size(),
      [&](std::mt19937& engine) {
        auto bad = good.vocabulary;
        if (engine() % 4 != 0) return fuzz::changed(bad, 0, bad.size(), engine);
        // Two tokens change their ids, which leaves a vocabulary.
        auto const id = [&](std::size_t from) { return std::min(bad.find("\":", from), bad.rfind("\":")) + 2; };
        auto const first = id(engine() % bad.size()), second = id(first);
        auto const length = [&](std::size_t at) { return bad.find_first_of(",}", at) - at; };
        auto const one = bad.substr(first, length(first)), other = bad.substr(second, length(second));
        bad.replace(second, other.size(), one);
        return bad.replace(first, one.size(), other);
      },
      [&](std::filesystem::path const&) { return byte_pair(in.path); },
      [&](std::string const& bytes, byte_pair const& found) {
        return right(reference::byte_pair(bytes, good.merges), found);
      });
  CHECK(all.refused > fuzz::mutations / 2);
  CHECK(all.read > fuzz::mutations / 8);
}

TEST_CASE("damaged merges.txt") {
  auto const in = fuzz::folder();
  auto const good = two_files();
  std::ofstream(in.path / "vocab.json", std::ios::binary) << good.vocabulary;
  auto const all = fuzz::run(
      in.path / "merges.txt", good.vocabulary.size(),
      [&](std::mt19937& engine) {
        auto bad = good.merges;
        if (engine() % 2 == 0) return fuzz::changed(bad, 0, bad.size(), engine);
        // Whole lines move, which leaves more that is well formed.
        for (auto moves = engine() % 3 + 1; moves > 0; --moves) {
          auto const from = bad.find('\n', engine() % bad.size());
          auto const to = bad.find('\n', engine() % bad.size());
          if (from == bad.npos || to == bad.npos || from + 1 == bad.size()) continue;
          auto const line = bad.substr(from, bad.find('\n', from + 1) - from);
          if (engine() % 4 != 0) bad.erase(from, line.size());
          if (engine() % 4 != 0) bad.insert(std::min(to, bad.rfind('\n')), line);
        }
        return bad;
      },
      [&](std::filesystem::path const&) { return byte_pair(in.path); },
      [&](std::string const& bytes, byte_pair const& found) {
        return right(reference::byte_pair(good.vocabulary, bytes), found);
      });
  CHECK(all.refused > fuzz::mutations / 4);
  CHECK(all.read > fuzz::mutations / 8);
}

TEST_CASE("damaged tokenizer.json") {
  auto const in = fuzz::folder();
  auto const good = fuzz::bytes_of(fixtures / "small/tokenizer.json");
  auto const all = fuzz::run(
      in.path / "tokenizer.json", 0,
      [&](std::mt19937& engine) {
        // The vocabulary is most of the file: as often as there, what stands before it.
        return fuzz::changed(good, 0, engine() % 2 == 0 ? good.find("\"vocab\"") : good.size(), engine);
      },
      [](std::filesystem::path const& path) { return byte_pair(path); },
      [](std::string const& bytes, byte_pair const& found) {
        return right(reference::byte_pair(nlohmann::json::parse(bytes)), found);
      });
  CHECK(all.refused > fuzz::mutations / 2);
}

TEST_CASE("large files that are nearly all structure need no more memory") {
  auto const many = [](int times, auto part) {
    std::string text;
    for (int i = 0; i < times; ++i) text += part(i);
    return text;
  };
  auto const same = [&](int times, std::string const& text) { return many(times, [&](int) { return text; }); };
  auto const good = fuzz::bytes_of(fixtures / "small/tokenizer.json");
  auto const inserted = [&](std::string const& after, std::string const& text) {
    return std::string(good).insert(good.find(after) + after.size(), text);
  };
  auto const long_text = std::string(1'000'000, 'a');
  auto const number = [](int i) { return std::to_string(i + 344); };  // the first id that is free
  auto const in = fuzz::folder();
  auto accepted = 0;
  auto most = std::size_t{0};
  for (auto const& text : {
           std::string(1'000'000, '['),
           "[" + same(300'000, "[],") + "0]",
           "[" + same(300'000, "{},") + "0]",
           "[" + same(500'000, "0,") + "0]",
           "[" + same(300'000, R"("",)") + "0]",
           "{" + same(100'000, R"("":{},)") + R"("":0})",
           "{" + many(100'000, [](int i) { return '"' + std::to_string(i) + R"(":[],)"; }) + R"("":0})",
           '"' + long_text,
           inserted(R"("vocab": {)",
                    many(100'000, [&](int i) { return R"("<)" + number(i) + R"(":)" + number(i) + ","; })),
           inserted(R"("vocab": {)", many(100'000, [&](int i) { return '"' + number(i) + R"(":0,)"; })),
           inserted(R"("vocab": {)", '"' + long_text + R"(":344,)"),
           inserted(R"("merges": [)", same(100'000, R"(["",""],)")),
           inserted(R"("merges": [)", same(300'000, R"("",)")),
           inserted(
               R"("added_tokens": [)",
               many(20'000, [&](int i) { return R"({"content":"<)" + number(i) + R"(","id":)" + number(i) + "},"; })),
       }) {
    std::ofstream(in.path / "tokenizer.json", std::ios::binary) << text;
    auto const before = fuzz::live;
    fuzz::peak = before;
    auto used = std::size_t{0};
    try {
      auto const found = byte_pair(in.path);
      used = fuzz::peak - before;
      CHECK(found.decode(found.encode("<7 <344")) == "<7 <344");
      ++accepted;
    } catch (pw::error const& fault) {
      used = fuzz::peak - before;
      CHECK(std::string_view(fault.what()).size() < 400);
    }
    CAPTURE(text.substr(0, 20));
    CHECK(used <= 64 * text.size() + (1 << 20));
    most = std::max(most, used / text.size());
  }
  CHECK(accepted == 3);
  MESSAGE("at most ", most, " bytes allocated for a byte of the file");
}
