// SPDX-License-Identifier: Apache-2.0
#pragma once
// How operations divide their work, and the scratch that they need for it: functions of sizes only, so that sums have one order.

#include <algorithm>
#include <cstddef>
#include <string>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/shapes.hpp>

namespace pipewright::inline v0::gpt2::cuda {

inline constexpr int lanes = 32;

/// Bytes of shared memory that every launch may have.
inline constexpr std::size_t ungranted_shared = 48 << 10;

/// Blocks of so many threads for n things, one a thread.
constexpr unsigned blocks_for(std::size_t n, unsigned threads) {
  return static_cast<unsigned>((n + threads - 1) / threads);
}

/// How layer_norm_backward divides its work: `blocks` rows of 2 * width numbers of scratch.
struct norm_backward_grid {
  static constexpr unsigned most_warps = 8;  // of a block
  unsigned warps, blocks;

  /// Throws error where a row's sums need more than a block has.
  explicit norm_backward_grid(row_shape s)
      : warps{static_cast<unsigned>(std::min<std::size_t>(most_warps, ungranted_shared / bytes_of_warp(s)))},
        blocks{0} {
    if (warps == 0)
      throw error("pipewright: a layer norm of width " + std::to_string(s.width) +
                  " is wider than the kernels have shared memory for, " +
                  std::to_string(ungranted_shared / (2 * sizeof(float))));
    blocks = std::min(264u, blocks_for(static_cast<std::size_t>(s.rows), warps));
  }
  static std::size_t bytes_of_warp(row_shape s) { return 2 * sizeof(float) * static_cast<std::size_t>(s.width); }
  std::size_t scratch(row_shape s) const { return 2 * static_cast<std::size_t>(s.width) * blocks; }
};

/// How add_columns divides its rows.
struct column_sum_grid {
  int runs, rows_of_run;

  explicit column_sum_grid(row_shape s)
      : runs{std::clamp(s.rows / 128, 1, 64)}, rows_of_run{(s.rows + runs - 1) / runs} {}
  /// Numbers of scratch.
  std::size_t scratch(row_shape s) const { return static_cast<std::size_t>(runs) * static_cast<std::size_t>(s.width); }
};

/// Blocks that a sum is divided among at most: so many numbers of scratch.
inline constexpr unsigned most_shares = 528;

/// Numbers of T that the queries' gradients need apart from where they go at last.
constexpr std::size_t query_gradients(attention_shape s) {
  return static_cast<std::size_t>(s.rows()) * static_cast<std::size_t>(s.width);
}
/// Numbers of scratch that attention's backward needs, counted in bf16 or fp32 ones: the queries' gradients, and their sums.
constexpr std::size_t attention_scratch(attention_shape s) {
  std::size_t const queries = static_cast<std::size_t>(s.rows()) * static_cast<std::size_t>(s.heads);
  return query_gradients(s) + 4 * queries;  // two fp32 numbers each
}

}  // namespace pipewright::inline v0::gpt2::cuda
