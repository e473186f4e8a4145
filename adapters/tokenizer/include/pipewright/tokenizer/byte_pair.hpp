// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/tokenizer/detail/merges.hpp>
#include <pipewright/tokenizer/detail/read.hpp>
#include <pipewright/tokenizer/detail/words.hpp>

namespace pipewright::inline v0::tokenizer {

/// GPT-2's byte-pair tokenizer (Radford et al., "Language models are unsupervised multitask learners", 2019), read from
/// the files of Hugging Face's and equal to it token for token. Bytes that are no UTF-8, which it does not take, are
/// words of their own between the stretches that are. decode(encode(bytes)) == bytes, for any bytes. Characters that are
/// newer than PCRE2's tables (10.42: Unicode 14) are neither letters nor numbers here, which may cut words elsewhere.
///
/// Once made it does not change: any number of threads may use one.
class byte_pair {
 public:
  /// From a folder with tokenizer.json, or else vocab.json and merges.txt; or from a tokenizer.json of any name.
  /// Throws error, which names the file and the place in it, where something is missing, malformed, contradictory, or
  /// asks for more than GPT-2's tokenizer does. Takes at most 64 times the files' size + 1 MiB of memory meanwhile.
  explicit byte_pair(std::filesystem::path const& place) : byte_pair(detail::read(place)) {}

  /// From vocab.json and merges.txt, by whatever names; otherwise as above. `<|endoftext|>` becomes the last token where
  /// the vocabulary lacks it.
  byte_pair(std::filesystem::path const& vocabulary, std::filesystem::path const& merges)
      : byte_pair(detail::read_two_files(vocabulary, merges)) {}

  /// Tokens in all; ids are below it.
  [[nodiscard]] auto vocabulary() const noexcept -> int { return static_cast<int>(model_.tokens.size()); }

  /// The id of an added token (one that stands for its whole text, as `<|endoftext|>` does), if there is one of this text.
  [[nodiscard]] auto added_token(std::string_view text) const -> std::optional<std::int32_t> {
    auto const found = std::ranges::find(model_.added, text, &detail::added_token::text);
    return found != model_.added.end() ? std::optional(found->id) : std::nullopt;
  }

  /// The id of `<|endoftext|>`. Throws error where a tokenizer.json does not add it.
  [[nodiscard]] auto end_of_text() const -> std::int32_t {
    if (auto const id = added_token(detail::end_of_text)) return *id;
    throw error("the tokenizer has no added token <|endoftext|>; choose one that has, or another end of texts");
  }

  /// A token's bytes. Throws error where there is none of this id.
  [[nodiscard]] auto bytes(std::int32_t id) const -> std::string_view {
    if (id >= 0 && id < vocabulary()) return model_.tokens[static_cast<std::size_t>(id)];
    throw error("there is no token " + std::to_string(id) + " in a vocabulary of " + std::to_string(vocabulary()));
  }

  /// The tokens of a text, or of any bytes. An added token's text becomes that token wherever it stands.
  /// O(n log n) for a word of n bytes; words are short.
  [[nodiscard]] auto encode(std::string_view text) const -> std::vector<std::int32_t> {
    std::vector<std::int32_t> ids;
    auto cutter = detail::word_cutter();
    auto merger = detail::word_merger(model_.merges, model_.bytes);
    cut_at_added<0>(text, ids, [&](std::string_view part) {
      cutter.for_each_word(part, [&](std::string_view word) { merger.append(word, ids); });
    });
    return ids;
  }

  /// The bytes of the tokens, `<|endoftext|>` among them; ids that are none are left out. Where tokens end inside a
  /// character, so do the bytes.
  [[nodiscard]] auto decode(std::span<std::int32_t const> ids) const -> std::string {
    std::string text;
    for (auto const id : ids) {
      if (id >= 0 && id < vocabulary()) text += model_.tokens[static_cast<std::size_t>(id)];
    }
    return text;
  }

 private:
  explicit byte_pair(detail::model&& made) : model_(std::move(made)) {
    // The longest first: where one begins with another, it is the longer one that is meant.
    std::ranges::sort(model_.added, std::ranges::greater(), [](auto const& each) { return each.text.size(); });
    for (auto const& each : model_.added) begins_[each.late][static_cast<unsigned char>(each.text[0])] = true;
  }

  /// Cuts out the added tokens of a text, first those that are not late, and calls use(part) for what lies between.
  template<bool Late, class Use>
  void cut_at_added(std::string_view text, std::vector<std::int32_t>& ids, Use const& use) const {
    auto const between = [&](std::string_view part) {
      if (part.empty()) return;
      if constexpr (Late) use(part);
      else cut_at_added<true>(part, ids, use);
    };
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
      if (!begins_[Late][static_cast<unsigned char>(text[at])]) continue;
      auto const found = std::ranges::find_if(model_.added, [&, rest = text.substr(at)](auto const& each) {
        return each.late == Late && rest.starts_with(each.text);
      });
      if (found == model_.added.end()) continue;
      between(text.substr(done, at - done));
      ids.push_back(found->id);
      done = at + found->text.size();
      at = done - 1;
    }
    between(text.substr(done));
  }

  detail::model model_;
  std::array<std::array<bool, 256>, 2> begins_{};  ///< the first bytes of added tokens, by whether they are late
};

}  // namespace pipewright::inline v0::tokenizer
