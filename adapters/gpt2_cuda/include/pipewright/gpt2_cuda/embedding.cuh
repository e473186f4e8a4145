// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include <pipewright/gpt2/shapes.hpp>
#include <pipewright/gpt2_cuda/device.cuh>
#include <pipewright/gpt2_cuda/operations.hpp>
#include <pipewright/gpt2_cuda/tokens.hpp>

namespace pipewright::inline v0::gpt2::cuda {

namespace detail {

template<int N, number T>
__global__ void embed(std::int32_t const* tokens, T const* token_table, T const* position_table, int rows, int length,
                      int width, device_dropout given, T* out) {
  int const packs = width / N;
  std::size_t const i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  std::size_t const row = i / static_cast<std::size_t>(packs);
  if (row >= static_cast<std::size_t>(rows)) return;
  std::size_t const j = i % static_cast<std::size_t>(packs) * N, columns = static_cast<std::size_t>(width);
  auto sum = load<N>(token_table + static_cast<std::size_t>(tokens[row]) * columns + j);
  auto const position = load<N>(position_table + row % static_cast<std::size_t>(length) * columns + j);
  drop_factors<N> const factors(given.now(), row * columns + j);
  for (int k = 0; k < N; ++k) sum.set(k, (sum[k] + position[k]) * factors[k]);
  store(out + row * columns + j, sum);
}

/// A block a token of the batch, a thread a column; the blocks that are more than there are tokens have nothing to do.
template<number T>
__global__ void add_by_token(std::int32_t const* rows, std::int32_t const* begins, std::int32_t const* tokens,
                             std::int32_t const* distinct, T const* gradient, int width, device_dropout given,
                             float* token_gradient) {
  if (static_cast<std::int32_t>(blockIdx.x) >= *distinct) return;
  std::size_t const columns = static_cast<std::size_t>(width);
  dropout const mask = given.now();
  float* const to = token_gradient + static_cast<std::size_t>(tokens[blockIdx.x]) * columns;
  for (std::size_t j = threadIdx.x; j < columns; j += blockDim.x) {
    float sum = 0;
    for (std::int32_t i = begins[blockIdx.x]; i < begins[blockIdx.x + 1]; ++i) {
      std::size_t const at = static_cast<std::size_t>(rows[i]) * columns + j;
      sum += wide(gradient[at]) * drop_factors<1>(mask, at)[0];
    }
    to[j] += sum;
  }
}
/// A block a position, a thread a column.
template<number T>
__global__ void add_by_position(T const* gradient, int sequences, int length, int width, device_dropout given,
                                float* position_gradient) {
  std::size_t const columns = static_cast<std::size_t>(width);
  dropout const mask = given.now();
  for (std::size_t j = threadIdx.x; j < columns; j += blockDim.x) {
    float sum = 0;
    for (int s = 0; s < sequences; ++s) {
      std::size_t const at =
          (static_cast<std::size_t>(s) * static_cast<std::size_t>(length) + blockIdx.x) * columns + j;
      sum += wide(gradient[at]) * drop_factors<1>(mask, at)[0];
    }
    position_gradient[blockIdx.x * columns + j] += sum;
  }
}

}  // namespace detail

template<class T>
void embed(cudaStream_t on, std::int32_t const* tokens, T const* token_table, T const* position_table,
           batch_shape batch, int width, device_dropout const& mask, T* out) {
  with_packs<T>(
      width,
      [&](auto n) {
        auto const threads = static_cast<std::size_t>(batch.tokens()) * static_cast<std::size_t>(width / n);
        launch{on, blocks_for(threads, 256), 256}("embed", detail::embed<n(), T>, tokens, token_table, position_table,
                                                  batch.tokens(), batch.length, width, mask, out);
      },
      token_table, position_table, out);
}

template<class T>
void embed_backward_weights(cudaStream_t on, std::int32_t const* rows, std::int32_t const* begins,
                            std::int32_t const* tokens, std::int32_t const* distinct, T const* gradient,
                            batch_shape batch, int width, device_dropout const& mask, float* token_gradient,
                            float* position_gradient) {
  launch{on, static_cast<unsigned>(batch.tokens()), 256}("add_by_token", detail::add_by_token<T>, rows, begins, tokens,
                                                         distinct, gradient, width, mask, token_gradient);
  launch{on, static_cast<unsigned>(batch.length), 256}("add_by_position", detail::add_by_position<T>, gradient,
                                                       batch.sequences, batch.length, width, mask, position_gradient);
}

}  // namespace pipewright::inline v0::gpt2::cuda
