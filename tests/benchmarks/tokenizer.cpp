// SPDX-License-Identifier: Apache-2.0
// How fast GPT-2's tokenizer encodes and decodes, on one core: MB/s (millions of bytes of text a second), the median of nine
// passes over texts of 4 MB that are made here. Goal: 5 MB/s of words and spaces in any language.
//   tokenizer [--json] [FOLDER [TEXT]]    FOLDER: of another tokenizer than the tests'; TEXT: a file to encode besides
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <benchmarks/support.hpp>

#include <pipewright/error.hpp>
#include <pipewright/tokenizer/byte_pair.hpp>

namespace {

namespace pw = pipewright;
constexpr std::size_t size = 4'000'000;
constexpr int repeats = 9;

/// Draws words as a language has them: a few very often, most of them seldom.
class language {
 public:
  language(std::vector<std::string> const& syllables, std::uint32_t seed) : engine_(seed) {
    for (int i = 0; i < 20'000; ++i) {
      std::string word;
      for (auto left = 1 + engine_() % 4; left > 0; --left) word += syllables[engine_() % syllables.size()];
      words_.push_back(word);
    }
  }
  auto word() -> std::string const& {
    auto const uniform = static_cast<double>(draw(1u << 31)) / (1u << 31);
    return words_[static_cast<std::size_t>(std::pow(20'000.0, uniform)) % words_.size()];
  }
  auto draw(unsigned choices) -> unsigned { return static_cast<unsigned>(engine_()) % choices; }

 private:
  std::mt19937 engine_;
  std::vector<std::string> words_;
};

auto prose(language from) -> std::string {
  std::string text;
  while (text.size() < size) {
    text += from.word();
    auto const end = from.draw(40);
    text += end == 0 ? ".\n\n" : end < 3 ? ". " : end < 6 ? ", " : end == 6 ? "'s " : " ";
    if (from.draw(50) == 0) text += std::to_string(from.draw(10'000)) + " ";
  }
  return text;
}

auto code(language from) -> std::string {
  std::string text;
  while (text.size() < size) {
    text += std::string(2 * from.draw(8), ' ') + from.word() + "." + from.word() + "(" + from.word() + "[" +
            std::to_string(from.draw(100)) + "]) != " + from.word() + "_" + from.word() + ";\n";
  }
  return text;
}

auto one_word(language from) -> std::string {
  std::string text;
  while (text.size() < size) text += from.word();
  return text;
}

auto noise() -> std::string {
  auto engine = std::mt19937(3);
  auto text = std::string(size, ' ');
  for (auto& each : text) each = static_cast<char>(engine());
  return text;
}

auto seconds_of(auto&& work) -> double {
  std::vector<double> found;
  for (int i = 0; i < repeats; ++i) {
    auto const start = std::chrono::steady_clock::now();
    work();
    found.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return benchmarks::median(found);
}

auto bytes_of(std::filesystem::path const& file) -> std::string {
  auto in = std::ifstream(file, std::ios::binary);
  if (!in) throw pw::error("text " + file.string() + " cannot be opened; check the path");
  return std::string(std::istreambuf_iterator<char>(in), {});
}

}  // namespace

int main(int argc, char** argv) try {
  auto const json = argc > 1 && std::strcmp(argv[1], "--json") == 0;
  auto const given = std::vector<std::string>(argv + 1 + json, argv + argc);
  if (given.size() > 2) throw pw::error("usage: tokenizer [--json] [FOLDER [TEXT]]");
  auto const tokenizer =
      pw::tokenizer::byte_pair(given.empty() ? PIPEWRIGHT_SOURCE_DIR "/tests/tokenizer/fixtures" : given[0]);

  auto const latin =
      language({"the", "in", "er", "an", "re", "on", "at", "en", "nd", "ti", "es", "or", "te", "of", "ed",
                "is",  "it", "al", "ar", "st", "to", "nt", "ng", "se", "ha", "as", "ou", "io", "le", "ve"},
               1);
  auto const korean =
      language({"이", "다", "는", "의", "에", "가", "고", "을", "한", "지", "하", "기", "로", "사", "은",
                "도", "리", "자", "를", "어", "서", "시", "그", "나", "아", "라", "인", "대", "정", "일"},
               2);
  auto texts = std::vector<std::pair<std::string, std::string>>{{"English-like", prose(latin)},
                                                                {"Korean", prose(korean)},
                                                                {"code", code(latin)},
                                                                {"random bytes", noise()},
                                                                {"one long word", one_word(latin)}};
  if (given.size() == 2) texts.emplace_back("the file", bytes_of(given[1]));
  if (json) std::printf("[");
  for (auto const& [name, text] : texts) {
    auto const ids = tokenizer.encode(text);
    if (tokenizer.decode(ids) != text) throw pw::error("the text '" + name + "' did not come back");
    auto const bytes = static_cast<double>(text.size());
    auto const encoded = bytes / 1e6 / seconds_of([&] { static_cast<void>(tokenizer.encode(text)); });
    auto const decoded = bytes / 1e6 / seconds_of([&] { static_cast<void>(tokenizer.decode(ids)); });
    auto const has_goal = name != "one long word" && name != "random bytes";
    std::printf(json ? "%s{\"text\": \"%s\", \"encode_mb_s\": %.2f, \"decode_mb_s\": %.2f, \"bytes_per_token\": %.2f, "
                       "\"goal\": %s}"
                     : "%s%-14s encode %7.2f MB/s, decode %8.2f MB/s, %5.2f bytes a token%s\n",
                json && name != texts[0].first ? ", " : "", name.c_str(), encoded, decoded,
                bytes / static_cast<double>(ids.size()), json ? has_goal ? "true" : "false" : "");
    std::fflush(stdout);
  }
  if (json) std::printf("]\n");
} catch (std::exception const& fault) {
  std::fprintf(stderr, "tokenizer: %s\n", fault.what());
  return 1;
}
