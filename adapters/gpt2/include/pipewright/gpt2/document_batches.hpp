// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/boundary.hpp>
#include <pipewright/gpt2/sequences.hpp>
#include <pipewright/gpt2/shapes.hpp>
#include <pipewright/stage/random.hpp>

namespace pipewright::inline v0::gpt2 {

/// Which tokens the loss is over: all of the padded batch, or those of the text.
enum class loss_on { all, real };

/// The order in which sequences are drawn; each epoch draws every one once.
enum class sequence_order { as_they_stand, shuffled, by_length };

/// How batches are made of sequences.
struct batching {
  int micro_batches = 1;
  int sequences = 1;         ///< of each micro-batch
  int context = 1024;        ///< a longer sequence is cut to as many tokens
  int padded_to = 0;         ///< tokens of every sequence of a batch; 0: as many as the batch's longest has
  std::int32_t padding = 0;  ///< the token that fills up, after the text: GPT-2's is its end of text
  loss_on loss = loss_on::all;
  sequence_order order = sequence_order::as_they_stand;
  std::uint64_t seed = 0;  ///< of the shuffling

  friend bool operator==(batching const&, batching const&) = default;
};

/// The micro-batches of one step, for the ranks that ask. The target of a token is the one that follows it, and of the last
/// one none, unless its sequence goes on. loss_on::all counts padding as text; loss_on::real leaves out (as a negative
/// target) what padding would have to predict, and padding as what is to be predicted.
///
/// Attention needs no mask besides: it looks back only, and padding comes after the text, so no token of the text sees any;
/// what padding itself computes has no part in the loss on real tokens, and its gradient is exactly 0.
class document_batch {
 public:
  document_batch(sequences const& data, batching const& how, std::vector<std::size_t> chosen)
      : data_(&data), how_(how), chosen_(std::move(chosen)), length_(static_cast<std::size_t>(how.padded_to)) {
    if (length_ == 0) {
      for (auto const i : chosen_) length_ = std::max(length_, kept(i));
    }
  }

  /// Tokens of every sequence, padding included.
  [[nodiscard]] auto length() const noexcept -> int { return static_cast<int>(length_); }
  /// Tokens of each sequence of a micro-batch, without padding.
  [[nodiscard]] auto lengths(int micro_batch) const -> std::vector<int> {
    std::vector<int> all;
    for (auto const i : part(micro_batch)) all.push_back(static_cast<int>(kept(i)));
    return all;
  }
  /// Targets that count, of a micro-batch and of all: what a loss per token is divided by.
  [[nodiscard]] auto counted(int micro_batch) const -> std::int64_t { return counted_in(part(micro_batch)); }
  [[nodiscard]] auto counted() const -> std::int64_t { return counted_in(chosen_); }

  /// The tokens of a micro-batch, for the embedding.
  void input(int micro_batch, token_batch& to) const {
    fill(micro_batch, how_.padding, to, [&](std::size_t i, std::int32_t* row) { data_->copy(i, 0, kept(i), row); });
  }

  /// The token after each of them, for the head; negative where none counts.
  void target(int micro_batch, token_batch& to) const {
    fill(micro_batch, how_.loss == loss_on::all ? how_.padding : not_counted, to,
         [&](std::size_t i, std::int32_t* row) {
           auto const n = kept(i);
           auto const next_is_known = goes_on(i);
           data_->copy(i, 1, next_is_known ? n : n - 1, row);
           if (!next_is_known || n < length_) row[length_ - 1] = not_counted;
         });
  }

 private:
  static constexpr std::int32_t not_counted = -1;

  [[nodiscard]] auto kept(std::size_t i) const -> std::size_t {
    return std::min(data_->length(i), static_cast<std::size_t>(how_.context));
  }
  /// Whether the token after the kept ones is a target too.
  [[nodiscard]] auto goes_on(std::size_t i) const -> bool { return data_->goes_on() && kept(i) == data_->length(i); }

  [[nodiscard]] auto part(int micro_batch) const -> std::span<std::size_t const> {
    auto const each = static_cast<std::size_t>(how_.sequences);
    return std::span(chosen_).subspan(static_cast<std::size_t>(micro_batch) * each, each);
  }

  [[nodiscard]] auto counted_in(std::span<std::size_t const> some) const -> std::int64_t {
    auto count = std::int64_t{0};
    for (auto const i : some) {
      auto const n = how_.loss == loss_on::all ? length_ : kept(i);
      auto const last_counts = goes_on(i) && kept(i) == n;
      count += static_cast<std::int64_t>(n) - (last_counts ? 0 : 1);
    }
    return count;
  }

  template<class Copy>
  void fill(int micro_batch, std::int32_t otherwise, token_batch& to, Copy copy) const {
    auto const some = part(micro_batch);
    to.batch = {how_.sequences, length()};
    to.ids.assign(some.size() * length_, otherwise);
    auto* row = to.ids.data();
    for (auto const i : some) {
      copy(i, row);
      row += length_;
    }
  }

  sequences const* data_;
  batching how_;
  std::vector<std::size_t> chosen_;
  std::size_t length_;
};

/// Batches without end: epoch after epoch over the same sequences; a batch may take the end of one and the start of the next.
/// Every rank makes its own and draws the same. What is to be saved of it is cursor().
class document_batches {
 public:
  /// `data` must stay. Throws error where the numbers make no batch.
  document_batches(sequences const& data, batching const& how) : data_(&data), how_(how) {
    auto const refuse = [](std::string const& what) { throw error("data: " + what); };
    if (how.micro_batches < 1 || how.sequences < 1)
      refuse("a batch needs at least one micro-batch and one sequence in it");
    if (how.context < 1) refuse("the context is " + std::to_string(how.context) + " tokens; it must be at least 1");
    if (how.padded_to < 0 || (how.padded_to > 0 && how.padded_to < how.context)) {
      refuse("sequences are padded to " + std::to_string(how.padded_to) + " tokens, fewer than the context of " +
             std::to_string(how.context) + "; pad to at least the context, or not at all (0)");
    }
    if (how.padding < 0) refuse("padding with token " + std::to_string(how.padding) + "; choose one of the vocabulary");
    order_.resize(data.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    if (how.order == sequence_order::by_length) {
      std::ranges::sort(order_, {}, [&](std::size_t i) { return std::pair(data.length(i), i); });
    }
  }

  /// The next batch.
  [[nodiscard]] auto next() -> document_batch {
    std::vector<std::size_t> chosen(static_cast<std::size_t>(how_.micro_batches) *
                                    static_cast<std::size_t>(how_.sequences));
    for (auto& each : chosen) {
      auto const size = static_cast<std::int64_t>(order_.size());
      if (how_.order == sequence_order::shuffled) shuffle(cursor_ / size);
      each = order_[static_cast<std::size_t>(cursor_ % size)];
      ++cursor_;
    }
    return {*data_, how_, std::move(chosen)};
  }

  /// How many sequences have been drawn since the start: all that a checkpoint needs of the data, besides how it is batched.
  [[nodiscard]] auto cursor() const noexcept -> std::int64_t { return cursor_; }
  /// Goes on as if so many had been drawn. Throws error where it is negative.
  void seek(std::int64_t drawn) {
    if (drawn < 0) throw error("data: there is no place " + std::to_string(drawn) + "; a cursor is at least 0");
    cursor_ = drawn;
  }
  /// How often all sequences have been drawn.
  [[nodiscard]] auto epoch() const noexcept -> std::int64_t {
    return cursor_ / static_cast<std::int64_t>(order_.size());
  }

 private:
  /// Puts order_ into the order of an epoch: a function of seed and epoch alone (Fisher and Yates).
  void shuffle(std::int64_t epoch) {
    if (epoch == shuffled_for_) return;
    constexpr auto site = std::uint32_t{0x73687566};  // apart from every layer's
    auto const stream = keyed_random{.seed = how_.seed, .step = epoch, .layer = -1}.at(site);
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    for (auto i = order_.size(); i > 1; --i) {
      auto const bits = stream.four(i);
      auto const chance = (std::uint64_t{bits[0]} << 32) | bits[1];
      std::swap(order_[i - 1], order_[chance % i]);
    }
    shuffled_for_ = epoch;
  }

  sequences const* data_;
  batching how_;
  std::vector<std::size_t> order_;
  std::int64_t shuffled_for_ = -1;
  std::int64_t cursor_ = 0;
};

}  // namespace pipewright::inline v0::gpt2
