// SPDX-License-Identifier: Apache-2.0
// What to train on: a text, or documents.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/data.hpp>
#include <pipewright/gpt2/document_batches.hpp>
#include <pipewright/gpt2/sequences.hpp>

#include "request.hpp"

#ifdef TRAINER_HAS_TOKENIZER
#include <memory>

#include <pipewright/tokenizer/byte_pair.hpp>
#endif

namespace trainer {

/// Texts as tokens, and back.
struct coder {
  std::function<std::vector<std::int32_t>(std::string_view)> encode = &gpt2::byte_tokenizer::encode;
  std::function<std::string(std::span<std::int32_t const>)> decode = &gpt2::byte_tokenizer::decode;
  int vocabulary = gpt2::byte_tokenizer::vocabulary;
  std::optional<std::int32_t> end_of_text{};
};

/// That of a tokenizer's folder, or a token a byte.
inline coder coder_of(request const& r) {
  if (r.tokenizer.empty()) return {};
#ifdef TRAINER_HAS_TOKENIZER
  auto const pairs = std::make_shared<pw::tokenizer::byte_pair const>(r.tokenizer);
  if (pairs->vocabulary() > r.model.vocabulary)
    throw pw::error(
        fmt::format("the tokenizer {} has {} tokens, and the model's vocabulary is {}; choose a --model or "
                    "--weights that belong to it",
                    r.tokenizer, pairs->vocabulary(), r.model.vocabulary));
  return {.encode = [pairs](std::string_view text) { return pairs->encode(text); },
          .decode = [pairs](std::span<std::int32_t const> ids) { return pairs->decode(ids); },
          .vocabulary = pairs->vocabulary(),
          .end_of_text = pairs->added_token("<|endoftext|>")};
#else
  throw pw::error(
      "this train_gpt2 was built without the tokenizer; install PCRE2 (Debian: libpcre2-dev) and build again");
#endif
}

/// The library's own headers, one after another: what is at hand in every checkout. `here` is a file of examples/train_gpt2.
inline std::string own_source(std::filesystem::path const& here) {
  namespace fs = std::filesystem;
  auto const folder = here.parent_path().parent_path().parent_path() / "include" / "pipewright";
  std::error_code code;
  std::vector<fs::path> files;
  for (auto const& each : fs::recursive_directory_iterator(folder, code))
    if (each.path().extension() == ".hpp") files.push_back(each.path());
  if (files.empty())
    throw pw::error(
        "the checkout that this program was built in is gone, and with it the text to train on; give one with --data "
        "FILE");
  std::sort(files.begin(), files.end());
  std::string text;
  for (auto const& file : files) text += gpt2::read_text(file);
  return text;
}

/// All data of a training.
struct data_set {
  std::variant<gpt2::text_data, gpt2::sequences> of;
  coder code;

  /// The held-out end of a text, as a batch.
  gpt2::text_batch held_out(request const& r) const {
    return {.data = &std::get<gpt2::text_data>(of),
            .sequences = r.sequences,
            .micro_batches = r.micro_batches,
            .seed = r.seed,
            .part = gpt2::part_of_text::held_out};
  }
  /// The token that ends a text, where the model has it.
  std::optional<std::int32_t> end_of_text(request const& r) const {
    return code.end_of_text && *code.end_of_text < r.model.vocabulary ? code.end_of_text : std::nullopt;
  }
};

inline data_set load_data(request const& r) {
  auto code = coder_of(r);
  if (!r.has_documents()) {
    auto const text = r.data.empty() ? own_source(__FILE__) : gpt2::read_text(r.data);
    return {gpt2::text_data(code.encode(text), r.sequence_length()), std::move(code)};
  }
  if (r.data.ends_with(".bin")) {
    auto const file = gpt2::token_file(r.data);
    if (int const largest = *std::ranges::max_element(file.tokens()); largest >= r.model.vocabulary)
      throw pw::error(
          fmt::format("token file {} has token {}, and the model's vocabulary is {}; choose a --model or "
                      "--weights that belong to it",
                      r.data, largest, r.model.vocabulary));
  }
  return {gpt2::read_sequences(r.data, r.context(), code.encode), std::move(code)};
}

/// One rank's way through the data; all ranks go the same.
class batch_source {
 public:
  batch_source(request const& r, data_set const& data) : r_{r}, data_{data} {
    if (auto const* const documents = std::get_if<gpt2::sequences>(&data.of))
      drawn_.emplace(*documents, gpt2::batching{.micro_batches = r.micro_batches,
                                                .sequences = r.sequences,
                                                .context = r.context(),
                                                .padded_to = r.pad_to,
                                                .padding = data.code.end_of_text.value_or(0),
                                                .loss = r.counts_tokens() ? gpt2::loss_on::real : gpt2::loss_on::all,
                                                .order = order(r.order),
                                                .seed = r.seed});
  }

  /// Calls use(batch) with that of a step, and returns how many tokens it has. Steps follow one another.
  std::int64_t with_next(int step, auto&& use) {
    std::int64_t const sequences = std::int64_t{r_.sequences} * r_.micro_batches;
    if (!drawn_) {
      auto const* const text = &std::get<gpt2::text_data>(data_.of);
      use(gpt2::text_batch{
          .data = text, .sequences = r_.sequences, .micro_batches = r_.micro_batches, .step = step, .seed = r_.seed});
      return sequences * text->length();
    }
    auto const batch = drawn_->next();
    use(batch);
    return sequences * batch.length();
  }

  /// What a checkpoint keeps; a text's batches follow from the step alone.
  std::int64_t cursor() const { return drawn_ ? drawn_->cursor() : 0; }
  void seek(std::int64_t cursor) {
    if (drawn_) drawn_->seek(cursor);
  }

 private:
  static gpt2::sequence_order order(std::string const& name) {
    return name == "as-they-stand" ? gpt2::sequence_order::as_they_stand
           : name == "by-length"   ? gpt2::sequence_order::by_length
                                   : gpt2::sequence_order::shuffled;
  }

  request const& r_;
  data_set const& data_;
  std::optional<gpt2::document_batches> drawn_;
};

}  // namespace trainer
