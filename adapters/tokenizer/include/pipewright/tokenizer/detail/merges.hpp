// SPDX-License-Identifier: Apache-2.0
#pragma once
// Byte-pair encoding of one word: Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword units",
// 2016, over bytes as in GPT-2.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>

namespace pipewright::inline v0::tokenizer::detail {

/// Which pairs of tokens merge, into what, and which first: a hash table of open addressing, at most half full.
class merge_table {
 public:
  static constexpr auto no_rank = std::numeric_limits<std::uint32_t>::max();
  struct merge {
    std::uint64_t pair = no_pair;
    std::uint32_t rank = no_rank;  ///< lower goes first
    std::int32_t token = -1;       ///< what the two become
  };

  /// Adds the next rank. False, and nothing is added, where the pair has one already.
  auto add(std::int32_t left, std::int32_t right, std::int32_t token) -> bool {
    if ((size_ + 1) * 2 > slots_.size()) grow();
    auto& slot = slots_[place_of(key(left, right))];
    if (slot.pair != no_pair) return false;
    slot = {key(left, right), static_cast<std::uint32_t>(size_++), token};
    return true;
  }
  /// A pair's merge; its rank is no_rank where there is none.
  [[nodiscard]] auto find(std::int32_t left, std::int32_t right) const noexcept -> merge const& {
    return slots_[place_of(key(left, right))];
  }

 private:
  static constexpr auto no_pair = std::numeric_limits<std::uint64_t>::max();  // tokens are not negative

  static auto key(std::int32_t left, std::int32_t right) noexcept -> std::uint64_t {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  [[nodiscard]] auto place_of(std::uint64_t pair) const noexcept -> std::size_t {
    auto place = pair * 0x9E37'79B9'7F4A'7C15u >> 32 & (slots_.size() - 1);
    while (slots_[place].pair != pair && slots_[place].pair != no_pair) place = (place + 1) & (slots_.size() - 1);
    return place;
  }
  void grow() {
    auto const old = std::exchange(slots_, std::vector<merge>(slots_.size() * 2));
    for (auto const& each : old) {
      if (each.pair != no_pair) slots_[place_of(each.pair)] = each;
    }
  }

  std::vector<merge> slots_ = std::vector<merge>(2);  // a power of two
  std::size_t size_ = 0;
};

/// Merges the bytes of words. One for each thread; it keeps its memory from word to word.
class word_merger {
 public:
  word_merger(merge_table const& merges, std::array<std::int32_t, 256> const& bytes) : merges_(merges), bytes_(bytes) {}

  /// Appends a word's tokens: of all neighbours that merge, those of the lowest rank do, the leftmost first, until none
  /// is left. O(n log n) for n bytes.
  void append(std::string_view word, std::vector<std::int32_t>& to) {
    if (word.size() > std::numeric_limits<std::uint32_t>::max() / 2) {
      throw error("a word of " + std::to_string(word.size()) +
                  " bytes is too long; cut the text into parts below 2 GiB");
    }
    auto const size = static_cast<std::uint32_t>(word.size());
    pieces_.resize(size);
    queue_.clear();
    for (std::uint32_t i = 0; i < size; ++i) {
      pieces_[i] = {bytes_[static_cast<unsigned char>(word[i])], i - 1, i + 1, merge_table::no_rank};
    }
    for (std::uint32_t i = 0; i + 1 < size; ++i) rank(i);
    std::ranges::make_heap(queue_, std::greater());
    while (!queue_.empty()) {
      std::ranges::pop_heap(queue_, std::greater());
      auto const first = queue_.back();
      queue_.pop_back();
      auto const at = static_cast<std::uint32_t>(first);
      if (pieces_[at].rank == first >> 32) merge(at, size);  // else one of the two has merged elsewhere since
    }
    for (std::uint32_t i = 0; i < size; i = pieces_[i].next) to.push_back(pieces_[i].token);
  }

 private:
  struct piece {
    std::int32_t token;
    std::uint32_t previous, next;  // piece by the word's byte that it begins at
    std::uint32_t rank;            // of its merge with the next
  };

  auto rank(std::uint32_t at) -> bool {
    auto& here = pieces_[at];
    here.rank = merges_.find(here.token, pieces_[here.next].token).rank;
    if (here.rank == merge_table::no_rank) return false;
    queue_.push_back(std::uint64_t{here.rank} << 32 | at);
    return true;
  }
  void rank_again(std::uint32_t at) {
    if (rank(at)) std::ranges::push_heap(queue_, std::greater());
  }
  void merge(std::uint32_t at, std::uint32_t size) {
    auto& here = pieces_[at];
    auto& gone = pieces_[here.next];
    here.token = merges_.find(here.token, gone.token).token;
    here.next = gone.next;
    gone.rank = here.rank = merge_table::no_rank;
    if (here.next < size) {
      pieces_[here.next].previous = at;
      rank_again(at);
    }
    if (at > 0) rank_again(here.previous);
  }

  merge_table const& merges_;
  std::array<std::int32_t, 256> const& bytes_;
  std::vector<piece> pieces_;
  std::vector<std::uint64_t> queue_;  // a heap of rank and place
};

}  // namespace pipewright::inline v0::tokenizer::detail
