// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include <pipewright/gpt2/shapes.hpp>
#include <pipewright/gpt2_cuda/device.cuh>
#include <pipewright/gpt2_cuda/operations.hpp>

namespace pipewright::inline v0::gpt2::cuda {

namespace detail {

/// A block a row: once over it for the largest and the sum of the exponentials (a thread scales its sum where it finds a larger
/// one: Milakov, Gimelshein, arXiv 1805.02867), once for the gradient. Probabilities are never stored.
template<int N, number T>
__global__ void classify(T* logits, std::int32_t const* targets, int width, int stride, float scale, float* losses) {
  std::int32_t const target = targets[blockIdx.x];
  T* const row = logits + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(stride);
  int const first = static_cast<int>(threadIdx.x) * N, step = static_cast<int>(blockDim.x) * N;
  if (target < 0) {
    for (int j = first; j < stride; j += step) store(row + j, pack<T, N>{});
    if (threadIdx.x == 0) losses[blockIdx.x] = 0.f;
    return;
  }
  float top = lowest, sum = 0.f;
  for (int j = first; j < width; j += step) {
    auto const v = load<N>(row + j);
    float most = top;
    for (int k = 0; k < N && j + k < width; ++k) most = v[k] > most ? v[k] : most;
    sum *= expf(top - most);
    for (int k = 0; k < N && j + k < width; ++k) sum += expf(v[k] - most);
    top = most;
  }
  float const chosen = wide(row[target]), largest = block_largest(top);
  float const total = block_sum(sum * expf(top - largest)), share = scale / total;
  if (threadIdx.x == 0) losses[blockIdx.x] = logf(total) - (chosen - largest);
  for (int j = first; j < stride; j += step) {
    auto v = load<N>(row + j);
    for (int k = 0; k < N; ++k)
      v.set(k, j + k < width ? expf(v[k] - largest) * share - (j + k == target ? scale : 0.f) : 0.f);
    store(row + j, v);
  }
}

}  // namespace detail

template<class T>
void classify(cudaStream_t on, T* logits, std::int32_t const* targets, row_shape s, int stride, float gradient_scale,
              float* losses) {
  with_packs<T>(
      stride,
      [&](auto n) {
        launch{on, static_cast<unsigned>(s.rows), 512}("classify", detail::classify<n(), T>, logits, targets, s.width,
                                                       stride, gradient_scale, losses);
      },
      logits);
}

}  // namespace pipewright::inline v0::gpt2::cuda
