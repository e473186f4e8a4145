// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>

namespace pipewright::inline v0::gpt2 {

/// A row-major matrix's size: one row a token.
struct row_shape {
  int rows;
  int width;

  [[nodiscard]] constexpr auto size() const noexcept -> std::size_t {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(width);
  }
  friend constexpr bool operator==(row_shape, row_shape) = default;
};

/// y = x w + b: x is rows x in, w is in x out (the layout of Hugging Face's Conv1D), y is rows x out.
struct linear_shape {
  int rows;
  int in;
  int out;

  friend constexpr bool operator==(linear_shape, linear_shape) = default;
};

/// Self-attention of `sequences` sequences of `length` tokens. Queries, keys and values stand side by side in a
/// row of 3 * width; a head owns width / heads neighbouring columns of each.
struct attention_shape {
  int sequences;
  int length;
  int heads;
  int width;

  [[nodiscard]] constexpr auto head_size() const noexcept -> int { return width / heads; }
  [[nodiscard]] constexpr auto rows() const noexcept -> int { return sequences * length; }
  friend constexpr bool operator==(attention_shape, attention_shape) = default;
};

/// Tokens of one micro-batch: `sequences` rows of `length` tokens each.
struct batch_shape {
  int sequences;
  int length;

  [[nodiscard]] constexpr auto tokens() const noexcept -> int { return sequences * length; }
  friend constexpr bool operator==(batch_shape, batch_shape) = default;
};

}  // namespace pipewright::inline v0::gpt2
