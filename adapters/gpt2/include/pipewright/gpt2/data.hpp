// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/boundary.hpp>
#include <pipewright/gpt2/shapes.hpp>
#include <pipewright/stage/random.hpp>

namespace pipewright::inline v0::gpt2 {

/// A token a byte: any text is data, and nothing has to be learned or shipped.
struct byte_tokenizer {
  static constexpr int vocabulary = 256;

  [[nodiscard]] static auto encode(std::string_view text) -> std::vector<std::int32_t> {
    std::vector<std::int32_t> ids;
    ids.reserve(text.size());
    for (unsigned char const c : text) ids.push_back(c);
    return ids;
  }
  /// The text of the tokens; those outside 0..255 are left out.
  [[nodiscard]] static auto decode(std::span<std::int32_t const> ids) -> std::string {
    std::string text;
    for (auto const id : ids) {
      if (id >= 0 && id < vocabulary) text += static_cast<char>(id);
    }
    return text;
  }
};

/// A file's bytes. Throws error where it cannot be read or is empty.
[[nodiscard]] inline auto read_text(std::filesystem::path const& file) -> std::string {
  auto in = std::ifstream(file, std::ios::binary);
  if (!in || std::filesystem::is_directory(file)) {
    throw error("data file " + file.string() + " cannot be opened; check the path");
  }
  auto text = std::string(std::istreambuf_iterator<char>(in), {});
  if (in.bad()) throw error("data file " + file.string() + " cannot be read");
  if (text.empty()) throw error("data file " + file.string() + " is empty; give a text to train on");
  return text;
}

/// Which part of a text: the beginning to train on, or the end, which training never sees.
enum class part_of_text { training, held_out };

/// A tokenised text, cut into a part to train on and a held-out end.
class text_data {
 public:
  /// The last `held_out` share of the tokens is held out. Throws error where either part cannot give one sequence of
  /// `length` tokens and its targets.
  text_data(std::vector<std::int32_t> ids, int length, double held_out = 0.1)
      : ids_(std::move(ids)), length_(static_cast<std::size_t>(length)) {
    auto const asked = static_cast<std::size_t>(static_cast<double>(ids_.size()) * held_out);
    split_ = ids_.size() - std::min(std::max(asked, length_ + 1), ids_.size());
    if (split_ < length_ + 1) {
      throw error("the data has " + std::to_string(ids_.size()) +
                  " tokens, too few for a training and a held-out sequence of " + std::to_string(length) +
                  "; give a longer text or choose shorter sequences");
    }
  }

  [[nodiscard]] auto part(part_of_text which) const -> std::span<std::int32_t const> {
    auto const all = std::span(ids_);
    return which == part_of_text::training ? all.first(split_) : all.subspan(split_);
  }
  [[nodiscard]] auto length() const -> int { return static_cast<int>(length_); }

 private:
  std::vector<std::int32_t> ids_;
  std::size_t length_;
  std::size_t split_ = 0;
};

/// The micro-batches of one step, for the ranks that ask: a function of (seed, step, micro-batch), whatever the
/// schedule. Training sequences start anywhere, at random; held-out ones lie evenly over the held-out part.
struct text_batch {
  text_data const* data;
  int sequences;      ///< in each micro-batch
  int micro_batches;  ///< of the step: spreads the held-out sequences
  std::int64_t step = 0;
  std::uint64_t seed = 0;
  part_of_text part = part_of_text::training;

  /// The tokens of a micro-batch, for the embedding.
  void input(int micro_batch, token_batch& to) const { fill(micro_batch, 0, to); }
  /// The token after each of them, for the head.
  void target(int micro_batch, token_batch& to) const { fill(micro_batch, 1, to); }

 private:
  void fill(int micro_batch, std::size_t shift, token_batch& to) const {
    auto const from = data->part(part);
    auto const length = static_cast<std::size_t>(data->length());
    to.batch = {sequences, data->length()};
    to.ids.resize(static_cast<std::size_t>(sequences) * length);
    for (int i = 0; i < sequences; ++i) {
      auto const start = first_token(micro_batch, i, from.size() - length) + shift;
      std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(start), length,
                  to.ids.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(i) * length));
    }
  }

  /// One of `choices` places to start.
  [[nodiscard]] auto first_token(int micro_batch, int sequence, std::size_t choices) const -> std::size_t {
    if (part == part_of_text::held_out) {
      auto const all = static_cast<std::size_t>(sequences) * static_cast<std::size_t>(micro_batches);
      auto const index = static_cast<std::size_t>(micro_batch) * static_cast<std::size_t>(sequences) +
                         static_cast<std::size_t>(sequence);
      return all > 1 ? (choices - 1) * index / (all - 1) : 0;
    }
    constexpr auto data_site = std::uint32_t{0x64617461};  // apart from every layer's
    auto const stream = keyed_random{.seed = seed, .step = step, .micro_batch = micro_batch, .layer = -1}.at(data_site);
    auto const bits = stream.four(static_cast<std::uint64_t>(sequence));
    return static_cast<std::size_t>(((std::uint64_t{bits[0]} << 32) | bits[1]) % choices);
  }
};

}  // namespace pipewright::inline v0::gpt2
