// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
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
/// from which the device takes them when it comes to it; the host waits for that before it writes the next ones.
class token_ids {
 public:
  /// Queues the copy. `sorted`: with the rows of each token.
  void place(std::span<std::int32_t const> ids, bool sorted) {
    auto& here = pipewright::cuda::context::here();
    if (copied_) here.wait(*copied_);
    count_ = ids.size();
    auto const most = sorted ? 4 * count_ + 2 : count_;
    staging_.resize(most);
    values_.resize(most);
    auto* const to = staging_.data();
    std::ranges::copy(ids, to);
    std::size_t written = count_;
    if (sorted) {
      order_.sort(ids);
      to[count_] = static_cast<std::int32_t>(order_.tokens.size());
      auto* at = std::ranges::copy(order_.rows, to + count_ + 1).out;
      at = std::ranges::copy(order_.tokens, at).out;
      // From a place that does not depend on how many tokens there are.
      at = to + 3 * count_ + 1;
      at = std::ranges::copy(order_.begins, at).out;
      written = static_cast<std::size_t>(at - to);
    }
    pipewright::cuda::check(
        cudaMemcpyAsync(values_.data(), to, written * sizeof(std::int32_t), cudaMemcpyHostToDevice, here.stream()),
        "cudaMemcpyAsync");
    if (!copied_) copied_.emplace();
    copied_->record(here.stream());
  }

  std::int32_t const* ids() const { return values_.data(); }
  std::int32_t const* distinct() const { return values_.data() + count_; }
  std::int32_t const* rows() const { return distinct() + 1; }
  std::int32_t const* tokens() const { return rows() + count_; }
  std::int32_t const* begins() const { return tokens() + count_; }

  void for_each_part(auto&& visit) { visit(values_); }

 private:
  std::size_t count_ = 0;
  rows_by_token order_;
  pipewright::cuda::pinned_buffer<std::int32_t> staging_;
  pipewright::cuda::buffer<std::int32_t> values_;
  std::optional<pipewright::cuda::event> copied_;
};

}  // namespace pipewright::inline v0::gpt2::cuda
