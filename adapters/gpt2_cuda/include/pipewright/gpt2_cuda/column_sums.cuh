// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>

#include <pipewright/gpt2/shapes.hpp>
#include <pipewright/gpt2_cuda/device.cuh>
#include <pipewright/gpt2_cuda/operations.hpp>

namespace pipewright::inline v0::gpt2::cuda {

namespace detail {

inline constexpr unsigned sum_warps = 8;  // of a block

/// A block a strip of columns and a run of rows: a lane a pack of columns, a warp every eighth row. A row of `parts` a run.
template<int N, number T> __global__ void column_sums(T const* of, row_shape s, int rows_of_block, float* parts) {
  __shared__ float of_warps[sum_warps][lanes * N];
  int const lane = static_cast<int>(threadIdx.x) % lanes, warp = static_cast<int>(threadIdx.x) / lanes;
  int const column = (static_cast<int>(blockIdx.x) * lanes + lane) * N;
  int const first = static_cast<int>(blockIdx.y) * rows_of_block,
            end = first + rows_of_block < s.rows ? first + rows_of_block : s.rows;
  float sum[N]{};
  if (column < s.width)
    for (int row = first + warp; row < end; row += static_cast<int>(sum_warps)) {
      auto const v = load<N>(of + static_cast<std::size_t>(row) * static_cast<std::size_t>(s.width) + column);
      for (int k = 0; k < N; ++k) sum[k] += v[k];
    }
  for (int k = 0; k < N; ++k) of_warps[warp][lane * N + k] = sum[k];
  __syncthreads();
  for (int j = static_cast<int>(threadIdx.x); j < lanes * N; j += static_cast<int>(blockDim.x)) {
    int const at = static_cast<int>(blockIdx.x) * lanes * N + j;
    if (at >= s.width) continue;
    float all = 0;
    for (unsigned w = 0; w < sum_warps; ++w) all += of_warps[w][j];
    parts[static_cast<std::size_t>(blockIdx.y) * static_cast<std::size_t>(s.width) + at] = all;
  }
}
template<class Sum> __global__ void add_column_sums(Sum const* parts, int runs, int width, Sum* to) {
  int const j = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (j >= width) return;
  Sum sum = 0;
  for (int i = 0; i < runs; ++i) sum += parts[static_cast<std::size_t>(i) * static_cast<std::size_t>(width) + j];
  to[j] += sum;
}

}  // namespace detail

template<class T> void add_columns(cudaStream_t on, T const* of, row_shape s, float* scratch, float* to) {
  column_sum_grid const grid(s);
  with_packs<T>(
      s.width,
      [&](auto n) {
        launch{on, blocks_for(static_cast<std::size_t>(s.width), lanes * n()), detail::sum_warps * lanes, 0,
               static_cast<unsigned>(grid.runs)}("column_sums", detail::column_sums<n(), T>, of, s, grid.rows_of_run,
                                                 scratch);
      },
      of);
  launch{on, blocks_for(static_cast<std::size_t>(s.width), 256), 256}("add_column_sums", detail::add_column_sums<float>,
                                                                      scratch, grid.runs, s.width, to);
}

}  // namespace pipewright::inline v0::gpt2::cuda
