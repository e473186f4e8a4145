// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>

#include <pipewright/gpt2_cuda/device.cuh>
#include <pipewright/gpt2_cuda/operations.hpp>

namespace pipewright::inline v0::gpt2::cuda {

namespace detail {

/// A block's share; which numbers are whose does not depend on the device.
template<bool Squares, number T> __global__ void shares(T const* of, std::size_t count, float* parts) {
  float sum = 0;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<std::size_t>(gridDim.x) * blockDim.x)
    sum += Squares ? wide(of[i]) * wide(of[i]) : wide(of[i]);
  float const all = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = all;
}
template<class Sum> __global__ void sum_of_shares(float const* parts, int count, Sum* to) {
  Sum sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += lanes) sum += static_cast<Sum>(parts[i]);
  for (int away = lanes / 2; away > 0; away /= 2) sum += __shfl_xor_sync(all_lanes, sum, away);
  if (threadIdx.x == 0) *to = sum;
}

}  // namespace detail

template<bool Squares, class T> void sum(cudaStream_t on, T const* of, std::size_t count, float* scratch, double* to) {
  unsigned const blocks = std::min(most_shares, blocks_for(count, 512));
  launch{on, blocks, 512}("shares", detail::shares<Squares, T>, of, count, scratch);
  launch{on, 1, lanes}("sum_of_shares", detail::sum_of_shares<double>, scratch, static_cast<int>(blocks), to);
}

}  // namespace pipewright::inline v0::gpt2::cuda
