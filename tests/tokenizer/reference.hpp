// SPDX-License-Identifier: Apache-2.0
#pragma once
// Byte-pair encoding as its paper has it, over strings and without any thought of speed: to hold the adapter against, where
// no other tokenizer has been asked.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace reference {

struct byte_pair {
  std::map<std::string, std::int32_t> ids;
  std::map<std::pair<std::string, std::string>, int> ranks;

  /// From the texts of vocab.json and merges.txt.
  byte_pair(std::string const& vocabulary, std::string const& merges) : ids(nlohmann::json::parse(vocabulary)) {
    auto rank = 0;
    for (std::size_t at = 0; at < merges.size();) {
      auto const end = std::min(merges.find('\n', at), merges.size());
      auto line = merges.substr(at, end - at);
      at = end + 1;
      if (line.ends_with('\r')) line.pop_back();
      if (line.starts_with("#version")) continue;
      auto const space = line.find(' ');
      ranks[{line.substr(0, space), line.substr(space + 1)}] = rank++;
    }
  }
  /// From the text of tokenizer.json.
  explicit byte_pair(nlohmann::json const& all) : ids(all.at("model").at("vocab")) {
    auto rank = 0;
    if (!all["model"].contains("merges") || all["model"]["merges"].is_null()) return;
    for (auto const& merge : all["model"]["merges"]) {
      auto const text = merge.is_string() ? merge.get<std::string>() : "";
      ranks[merge.is_string() ? std::pair(text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1))
                              : merge.get<std::pair<std::string, std::string>>()] = rank++;
    }
  }

  /// GPT-2's letter of a byte, counted out.
  static auto letter(unsigned char byte) -> std::string {
    auto const prints = [](int b) { return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE; };
    auto character = static_cast<int>(byte);
    if (!prints(byte)) {
      character = 256;
      for (int b = 0; b < byte; ++b) character += !prints(b);
    }
    if (character < 128) return std::string(1, static_cast<char>(character));
    return {static_cast<char>(0xC0 + character / 64), static_cast<char>(0x80 + character % 64)};
  }

  /// The tokens of one word.
  [[nodiscard]] auto encode(std::string_view word) const -> std::vector<std::int32_t> {
    std::vector<std::string> pieces;
    for (unsigned char const byte : word) pieces.push_back(letter(byte));
    while (true) {
      auto best = pieces.size();
      auto lowest = static_cast<int>(ranks.size());
      for (std::size_t i = 0; i + 1 < pieces.size(); ++i) {
        auto const found = ranks.find({pieces[i], pieces[i + 1]});
        if (found != ranks.end() && found->second < lowest) {
          lowest = found->second;
          best = i;
        }
      }
      if (best == pieces.size()) break;
      pieces[best] += pieces[best + 1];
      pieces.erase(pieces.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    std::vector<std::int32_t> result;
    for (auto const& piece : pieces) result.push_back(ids.at(piece));
    return result;
  }
};

}  // namespace reference
