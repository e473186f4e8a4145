// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <pipewright/gpt2/shapes.hpp>
#include <pipewright/gpt2_cuda/device.cuh>

namespace pipewright::inline v0::gpt2::cuda::detail {

/// Where the parts of one head of one sequence begin: its blocks are a column of the grid.
struct head_at {
  attention_shape s;
  int sequence, head, size;
  std::size_t stride, first_row;

  __device__ explicit head_at(attention_shape of)
      : s{of},
        sequence{static_cast<int>(blockIdx.y) / of.heads},
        head{static_cast<int>(blockIdx.y) % of.heads},
        size{of.width / of.heads},
        stride{3 * static_cast<std::size_t>(of.width)},
        first_row{static_cast<std::size_t>(sequence) * static_cast<std::size_t>(of.length)} {}
  /// `which`: 0 queries, 1 keys, 2 values.
  template<class U> __device__ U* in_qkv(U* qkv, int which) const {
    return qkv + first_row * stride + static_cast<std::size_t>(which * s.width + head * size);
  }
  /// Of rows that begin so far apart.
  template<class U> __device__ U* in_rows(U* rows, std::size_t apart) const {
    return rows + first_row * apart + static_cast<std::size_t>(head * size);
  }
  template<class U> __device__ U* in_rows(U* rows) const { return in_rows(rows, static_cast<std::size_t>(s.width)); }
  /// The first of a row's numbers among those that heads have for each query, and among all scores.
  __device__ std::size_t query(int row) const {
    return static_cast<std::size_t>(blockIdx.y) * static_cast<std::size_t>(s.length) + static_cast<std::size_t>(row);
  }
  /// A score's place among all, by which dropout knows it.
  __device__ std::size_t score(int query_row, int key_row) const {
    return query(query_row) * static_cast<std::size_t>(s.length) + static_cast<std::size_t>(key_row);
  }
  __device__ float factor(dropout const& mask, int query_row, int key_row) const {
    return drop_factors<1>(mask, score(query_row, key_row))[0];
  }
  __device__ bool sees(int query_row, int key_row) const { return key_row <= query_row && query_row < s.length; }
};

/// A kernel's launch with a block for so many rows of each head.
inline launch for_heads(cudaStream_t on, attention_shape s, int rows, unsigned threads, std::size_t shared) {
  if (std::int64_t{s.sequences} * s.heads > 65535)
    throw error("pipewright: attention's kernels take up to 65535 heads of sequences at once, not " +
                std::to_string(std::int64_t{s.sequences} * s.heads) + "; choose fewer sequences a micro-batch");
  return {on, blocks_for(static_cast<std::size_t>(s.length), static_cast<unsigned>(rows)), threads, shared,
          static_cast<unsigned>(s.sequences * s.heads)};
}

}  // namespace pipewright::inline v0::gpt2::cuda::detail
