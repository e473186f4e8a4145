// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/event.hpp>
#include <pipewright/cuda/memory.hpp>

namespace pipewright::inline v0::gpt2::cuda {

/// The rows of a batch by token, so that a thread adds up a token's gradients in the order of its rows: the same bits every
/// time, and no atomics. Made on the host, where the tokens come from. O(n log n).
struct rows_by_token {
  std::vector<std::int32_t> rows;    ///< of all tokens, ascending for each
  std::vector<std::int32_t> begins;  ///< where each token's rows begin, and the number of all
  std::vector<std::int32_t> tokens;  ///< each that there is, ascending

  rows_by_token() = default;
  explicit rows_by_token(std::span<std::int32_t const> of) { sort(of); }
  /// Over what it was.
  void sort(std::span<std::int32_t const> of) {
    rows.resize(of.size());
    std::iota(rows.begin(), rows.end(), 0);
    auto const token_of = [&](std::int32_t row) { return of[static_cast<std::size_t>(row)]; };
    std::ranges::sort(rows, [&](std::int32_t a, std::int32_t b) {
      return token_of(a) != token_of(b) ? token_of(a) < token_of(b) : a < b;
    });
    begins.clear();
    tokens.clear();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (!tokens.empty() && tokens.back() == token_of(rows[i])) continue;
      tokens.push_back(token_of(rows[i]));
      begins.push_back(static_cast<std::int32_t>(i));
    }
    begins.push_back(static_cast<std::int32_t>(rows.size()));
  }
};

/// Token numbers of a micro-batch on the device, and where asked for the rows of each token. The host writes them into pinned memory,
/// from which the device takes them when it comes to it; the host waits for that before it writes the next ones there.
class token_ids {
 public:
  /// Queues the copy. `sorted`: with the rows of each token.
  void place(std::span<std::int32_t const> ids, bool sorted) {
    auto& here = pipewright::cuda::context::here();
    auto& from = next_staging(here);
    count_ = ids.size();
    auto const most = sorted ? 4 * count_ + 2 : count_;
    from.numbers.resize(most);
    values_.resize(most);
    auto* const to = from.numbers.data();
    std::ranges::copy(ids, to);
    if (sorted) {
      order_.sort(ids);
      to[count_] = static_cast<std::int32_t>(order_.tokens.size());
      auto* const after = std::ranges::copy(order_.rows, to + count_ + 1).out;
      // Each begins at a place that does not depend on how many tokens there are.
      std::fill(std::ranges::copy(order_.tokens, after).out, after + count_, 0);
      std::fill(std::ranges::copy(order_.begins, after + count_).out, to + most, 0);
    }
    pipewright::cuda::queue_copy(here.stream(), to, most, values_.data());
    from.is_read.record(here.stream());
  }

  std::int32_t const* ids() const { return values_.data(); }
  std::int32_t const* distinct() const { return values_.data() + count_; }
  std::int32_t const* rows() const { return distinct() + 1; }
  std::int32_t const* tokens() const { return rows() + count_; }
  std::int32_t const* begins() const { return tokens() + count_; }

  void for_each_part(auto&& visit) { visit(values_); }

 private:
  struct staging {
    pipewright::cuda::pinned_buffer<std::int32_t> numbers;
    pipewright::cuda::event is_read;
  };
  /// One whose numbers the device has read. While a step is written down it reads none, so that each has one of its own.
  staging& next_staging(pipewright::cuda::context& here) {
    if (list_ != here.lists()) next_ = 0;
    list_ = here.lists();
    if (!here.writes_down()) next_ = 0;
    if (next_ == stagings_.size()) stagings_.push_back(std::make_unique<staging>());
    else if (!here.writes_down()) here.wait(stagings_[next_]->is_read);
    return *stagings_[next_++];
  }

  std::size_t count_ = 0;
  rows_by_token order_;
  std::vector<std::unique_ptr<staging>> stagings_;
  std::size_t next_ = 0;
  std::uint64_t list_ = 0;
  pipewright::cuda::buffer<std::int32_t> values_;
};

}  // namespace pipewright::inline v0::gpt2::cuda
