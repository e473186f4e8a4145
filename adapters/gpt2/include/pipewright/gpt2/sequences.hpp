// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/data.hpp>
#include <pipewright/gpt2/squad.hpp>
#include <pipewright/gpt2/token_file.hpp>

namespace pipewright::inline v0::gpt2 {

/// Tokens to train on, in sequences: documents, each a sequence of its own length, or a stream cut into sequences of one
/// length, each of which goes on in the next.
class sequences {
 public:
  /// One document a text: encode(text) gives its tokens. Texts without tokens are left out. Throws error where none is left.
  template<std::ranges::input_range Texts, class Encode>
  static auto of_documents(Texts const& texts, Encode&& encode) -> sequences {
    auto made = sequences();
    auto& ids = std::get<own>(made.tokens_);
    for (auto const& text : texts) {
      auto const more = encode(std::string_view(text));
      if (std::ranges::empty(more)) continue;
      ids.insert(ids.end(), std::ranges::begin(more), std::ranges::end(more));
      made.starts_.push_back(ids.size());
    }
    if (made.size() == 0) throw error("the data has no tokens; give a text to train on");
    return made;
  }

  /// A stream of tokens, cut. A rest shorter than `length` and the token after it is left out. Throws error where nothing is
  /// left.
  static auto of_stream(std::vector<std::int32_t> ids, int length) -> sequences { return cut(std::move(ids), length); }
  static auto of_stream(token_file file, int length) -> sequences { return cut(std::move(file), length); }

  [[nodiscard]] auto size() const noexcept -> std::size_t {
    return length_ == 0 ? starts_.size() - 1 : (stored() - 1) / length_;
  }
  /// Tokens of one sequence.
  [[nodiscard]] auto length(std::size_t i) const noexcept -> std::size_t { return begin(i + 1) - begin(i); }
  /// Whether a token is known that follows the sequence: that of a stream.
  [[nodiscard]] auto goes_on() const noexcept -> bool { return length_ != 0; }

  /// Writes `count` tokens of sequence i from its `first` on; one after its end where it goes on.
  void copy(std::size_t i, std::size_t first, std::size_t count, std::int32_t* to) const {
    auto const from = static_cast<std::ptrdiff_t>(begin(i) + first);
    if (auto const* ids = std::get_if<own>(&tokens_)) {
      std::copy_n(ids->begin() + from, count, to);
    } else {
      std::copy_n(std::get<token_file>(tokens_).tokens().begin() + from, count, to);
    }
  }

 private:
  using own = std::vector<std::int32_t>;

  sequences() = default;

  template<class Tokens>
  static auto cut(Tokens tokens, int length) -> sequences {
    auto made = sequences();
    made.tokens_ = std::move(tokens);
    made.length_ = static_cast<std::size_t>(std::max(length, 0));
    if (length < 1 || made.stored() < made.length_ + 1) {
      throw error("the data has " + std::to_string(made.stored()) + " tokens, too few for one sequence of " +
                  std::to_string(length) + " and the token after it; give a longer text or choose shorter sequences");
    }
    return made;
  }

  [[nodiscard]] auto stored() const noexcept -> std::size_t {
    if (auto const* ids = std::get_if<own>(&tokens_)) return ids->size();
    return std::get_if<token_file>(&tokens_)->tokens().size();
  }
  [[nodiscard]] auto begin(std::size_t i) const noexcept -> std::size_t {
    return length_ == 0 ? starts_[i] : i * length_;
  }

  std::variant<own, token_file> tokens_;
  std::vector<std::size_t> starts_{0};  ///< of documents, and the end of the last
  std::size_t length_ = 0;              ///< of a stream's sequences
};

/// The data of a file, by the ending of its name: .json is SQuAD's, whose contexts are documents; .bin is llm.c's token file;
/// anything else is a text. The last two are streams, cut into sequences of `length` tokens. encode(text) gives a text's
/// tokens. Throws error where the file cannot be read, is not well formed or is too short.
template<class Encode>
[[nodiscard]] auto read_sequences(std::filesystem::path const& path, int length, Encode&& encode) -> sequences {
  if (path.extension() == ".json") return sequences::of_documents(read_squad(path), encode);
  if (path.extension() == ".bin") return sequences::of_stream(token_file(path), length);
  auto const ids = encode(std::string_view(read_text(path)));
  return sequences::of_stream({std::ranges::begin(ids), std::ranges::end(ids)}, length);
}

}  // namespace pipewright::inline v0::gpt2
