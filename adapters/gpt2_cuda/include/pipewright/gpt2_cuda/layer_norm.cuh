// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>

#include <pipewright/gpt2/constants.hpp>
#include <pipewright/gpt2/shapes.hpp>
#include <pipewright/gpt2_cuda/device.cuh>
#include <pipewright/gpt2_cuda/operations.hpp>

namespace pipewright::inline v0::gpt2::cuda {

namespace detail {

/// The row that this warp has at first, and how far the next one is.
struct warp_rows {
  int first, step;
  int lane = static_cast<int>(threadIdx.x) % lanes;

  __device__ warp_rows()
      : first{static_cast<int>(blockIdx.x * (blockDim.x / lanes) + threadIdx.x / lanes)},
        step{static_cast<int>(gridDim.x * (blockDim.x / lanes))} {}
};

/// A warp a row, read again from the cache for each of the passes: over the mean, the variance, the result.
template<int N, bool Adds, number T>
__global__ void layer_norm(T const* x, T const* branch, device_dropout given, T const* weight, T const* bias,
                           row_shape s, T* total, T* y, float* mean, float* reciprocal) {
  warp_rows const here;
  dropout const mask = given.now();
  float const share = 1.f / static_cast<float>(s.width);
  for (int row = here.first; row < s.rows; row += here.step) {
    std::size_t const start = static_cast<std::size_t>(row) * static_cast<std::size_t>(s.width);
    T const* from = x + start;
    float sum = 0;
    for (int j = here.lane * N; j < s.width; j += lanes * N) {
      auto v = load<N>(from + j);
      if constexpr (Adds) {
        auto const more = load<N>(branch + start + j);
        drop_factors<N> const factors(mask, start + static_cast<std::size_t>(j));
        for (int k = 0; k < N; ++k) v.set(k, v[k] + factors[k] * more[k]);
        store(total + start + j, v);
      }
      for (int k = 0; k < N; ++k) sum += v[k];
    }
    if constexpr (Adds) from = total + start;  // rounded, as the backward reads it
    float const m = warp_sum(sum) * share;
    float squares = 0;
    for (int j = here.lane * N; j < s.width; j += lanes * N) {
      auto const v = load<N>(from + j);
      for (int k = 0; k < N; ++k) squares += (v[k] - m) * (v[k] - m);
    }
    float const r = rsqrtf(warp_sum(squares) * share + layer_norm_epsilon);
    for (int j = here.lane * N; j < s.width; j += lanes * N) {
      auto v = load<N>(from + j);
      auto const w = load<N>(weight + j), b = load<N>(bias + j);
      for (int k = 0; k < N; ++k) v.set(k, (v[k] - m) * r * w[k] + b[k]);
      store(y + start + j, v);
    }
    if (here.lane == 0) {
      mean[row] = m;
      reciprocal[row] = r;
    }
  }
}

/// The input's gradient, a warp a row. What a warp's rows give to the weights' gradients is summed in shared memory, then over
/// the block's warps: a row of `parts` a block.
template<int N, number T>
__global__ void layer_norm_backward(T const* x, float const* mean, float const* reciprocal, T const* weight,
                                    T const* dy, T const* residual_gradient, row_shape s, T* dx, float* parts) {
  warp_rows const here;
  auto* const of_block = shared_memory<float>();
  int const warps = static_cast<int>(blockDim.x) / lanes;
  float* const of_warp = of_block + static_cast<int>(threadIdx.x) / lanes * 2 * s.width;
  for (int j = here.lane; j < 2 * s.width; j += lanes) of_warp[j] = 0.f;
  __syncwarp();
  float const share = 1.f / static_cast<float>(s.width);
  for (int row = here.first; row < s.rows; row += here.step) {
    std::size_t const start = static_cast<std::size_t>(row) * static_cast<std::size_t>(s.width);
    float const m = mean[row], r = reciprocal[row];
    float slope = 0, along = 0;
    for (int j = here.lane * N; j < s.width; j += lanes * N) {
      auto const v = load<N>(x + start + j), g = load<N>(dy + start + j), w = load<N>(weight + j);
      for (int k = 0; k < N; ++k) {
        slope += g[k] * w[k];
        along += g[k] * w[k] * ((v[k] - m) * r);
      }
    }
    slope = warp_sum(slope) * share;
    along = warp_sum(along) * share;
    for (int j = here.lane * N; j < s.width; j += lanes * N) {
      auto const v = load<N>(x + start + j), w = load<N>(weight + j);
      auto g = load<N>(dy + start + j);
      pack<T, N> rest{};
      if (residual_gradient != nullptr) rest = load<N>(residual_gradient + start + j);
      for (int k = 0; k < N; ++k) {
        float const normed = (v[k] - m) * r, gradient = g[k];
        of_warp[j + k] += gradient * normed;
        of_warp[s.width + j + k] += gradient;
        g.set(k, (gradient * w[k] - slope - normed * along) * r + rest[k]);
      }
      store(dx + start + j, g);
    }
  }
  __syncthreads();
  for (int j = static_cast<int>(threadIdx.x); j < 2 * s.width; j += static_cast<int>(blockDim.x)) {
    float sum = 0;
    for (int w = 0; w < warps; ++w) sum += of_block[w * 2 * s.width + j];
    parts[static_cast<std::size_t>(blockIdx.x) * 2 * static_cast<std::size_t>(s.width) + static_cast<std::size_t>(j)] =
        sum;
  }
}
template<class Sum> __global__ void sum_parts(Sum const* parts, int count, int width, Sum* first, Sum* second) {
  int const j = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (j >= 2 * width) return;
  float sum = 0;
  for (int i = 0; i < count; ++i)
    sum += parts[static_cast<std::size_t>(i) * 2 * static_cast<std::size_t>(width) + static_cast<std::size_t>(j)];
  (j < width ? first[j] : second[j - width]) = sum;
}

inline constexpr unsigned norm_warps = norm_backward_grid::most_warps;

template<bool Adds, number T>
void start_layer_norm(cudaStream_t on, T const* x, T const* branch, device_dropout const& mask, T const* weight,
                      T const* bias, row_shape s, T* total, T* y, float* mean, float* reciprocal) {
  with_packs<T>(
      s.width,
      [&](auto n) {
        launch{on, blocks_for(static_cast<std::size_t>(s.rows), norm_warps), norm_warps * lanes}(
            "layer_norm", layer_norm<n(), Adds, T>, x, branch, mask, weight, bias, s, total, y, mean, reciprocal);
      },
      x, branch, weight, bias, total, y);
}

}  // namespace detail

template<class T>
void layer_norm(cudaStream_t on, T const* x, T const* weight, T const* bias, row_shape s, T* y, float* mean,
                float* reciprocal) {
  detail::start_layer_norm<false>(on, x, static_cast<T const*>(nullptr), {}, weight, bias, s, static_cast<T*>(nullptr),
                                  y, mean, reciprocal);
}

template<class T>
void add_layer_norm(cudaStream_t on, T const* base, T const* branch, device_dropout const& mask, T const* weight,
                    T const* bias, row_shape s, T* total, T* y, float* mean, float* reciprocal) {
  detail::start_layer_norm<true>(on, base, branch, mask, weight, bias, s, total, y, mean, reciprocal);
}

template<class T>
void layer_norm_backward(cudaStream_t on, T const* x, float const* mean, float const* reciprocal, T const* weight,
                         T const* dy, T const* residual_gradient, row_shape s, float* scratch, T* dx,
                         float* weight_gradient, float* bias_gradient) {
  norm_backward_grid const grid(s);
  with_packs<T>(
      s.width,
      [&](auto n) {
        launch{on, grid.blocks, grid.warps * lanes, grid.warps * grid.bytes_of_warp(s)}(
            "layer_norm_backward", detail::layer_norm_backward<n(), T>, x, mean, reciprocal, weight, dy,
            residual_gradient, s, dx, scratch);
      },
      x, weight, dy, residual_gradient, dx);
  launch{on, blocks_for(2 * static_cast<std::size_t>(s.width), 128), 128}("sum_parts", detail::sum_parts<float>,
                                                                          scratch, static_cast<int>(grid.blocks),
                                                                          s.width, weight_gradient, bias_gradient);
}

}  // namespace pipewright::inline v0::gpt2::cuda
