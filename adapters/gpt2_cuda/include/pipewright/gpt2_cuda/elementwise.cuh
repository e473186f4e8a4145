// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <type_traits>

#include <pipewright/gpt2/constants.hpp>
#include <pipewright/gpt2_cuda/device.cuh>
#include <pipewright/gpt2_cuda/operations.hpp>

namespace pipewright::inline v0::gpt2::cuda {

namespace detail {

/// Calls at(first, std::integral_constant<N>) in a thread for each pack of `count` numbers; the last few one by one.
template<int N> __device__ void for_each_pack(std::size_t count, auto const& at) {
  std::size_t const first = (static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  if (first + N <= count) at(first, std::integral_constant<int, N>());
  else
    for (std::size_t i = first; i < count; ++i) at(i, std::integral_constant<int, 1>());
}
template<number T> void over_all(cudaStream_t on, std::size_t count, auto const& start, auto const*... at) {
  with_packs<T>(0, [&](auto n) { start(launch{on, blocks_for(blocks_for(count, n), 256), 256}, n); }, at...);
}

template<int N, number T>
__global__ void add_dropout(T const* base, T const* branch, std::size_t count, device_dropout given, T* to) {
  dropout const mask = given.now();
  for_each_pack<N>(count, [&]<int M>(std::size_t i, std::integral_constant<int, M>) {
    auto sum = load<M>(base + i);
    auto const more = load<M>(branch + i);
    drop_factors<M> const factors(mask, i);
    for (int k = 0; k < M; ++k) sum.set(k, sum[k] + factors[k] * more[k]);
    store(to + i, sum);
  });
}
template<int N, number T> __global__ void dropout_backward(T const* gradient, std::size_t count, device_dropout given,
                                                           T* to) {
  dropout const mask = given.now();
  for_each_pack<N>(count, [&]<int M>(std::size_t i, std::integral_constant<int, M>) {
    auto g = load<M>(gradient + i);
    drop_factors<M> const factors(mask, i);
    for (int k = 0; k < M; ++k) g.set(k, factors[k] * g[k]);
    store(to + i, g);
  });
}
template<number T> __global__ void accumulate(T const* from, std::size_t count, float* to) {
  for_each_pack<1>(count, [&](std::size_t i, auto) { to[i] += wide(from[i]); });
}

__device__ inline float gelu_share(float x) {
  return 1.f / (1.f + expf(-gelu_twice_root * (x + gelu_cubic * x * x * x)));
}

template<int N, number T> __global__ void gelu(T const* before, std::size_t count, T* to) {
  for_each_pack<N>(count, [&]<int M>(std::size_t i, std::integral_constant<int, M>) {
    auto x = load<M>(before + i);
    for (int k = 0; k < M; ++k) x.set(k, x[k] * gelu_share(x[k]));
    store(to + i, x);
  });
}
template<int N, number T> __global__ void gelu_backward(T const* gradient, T const* before, std::size_t count, T* to) {
  for_each_pack<N>(count, [&]<int M>(std::size_t i, std::integral_constant<int, M>) {
    auto g = load<M>(gradient + i);
    auto const x = load<M>(before + i);
    for (int k = 0; k < M; ++k) {
      float const s = gelu_share(x[k]),
                  slope = s + x[k] * s * (1.f - s) * gelu_twice_root * (1.f + 3.f * gelu_cubic * x[k] * x[k]);
      g.set(k, g[k] * slope);
    }
    store(to + i, g);
  });
}

}  // namespace detail

template<class T> void add_dropout(cudaStream_t on, T const* base, T const* branch, std::size_t count,
                                   device_dropout const& mask, T* to) {
  detail::over_all<T>(
      on, count,
      [&](launch go, auto n) { go("add_dropout", detail::add_dropout<n(), T>, base, branch, count, mask, to); }, base,
      branch, to);
}
template<class T> void dropout_backward(cudaStream_t on, T const* gradient, std::size_t count,
                                        device_dropout const& mask, T* to) {
  detail::over_all<T>(
      on, count,
      [&](launch go, auto n) { go("dropout_backward", detail::dropout_backward<n(), T>, gradient, count, mask, to); },
      gradient, to);
}
template<class T> void accumulate(cudaStream_t on, T const* from, std::size_t count, float* to) {
  launch{on, blocks_for(count, 256), 256}("accumulate", detail::accumulate<T>, from, count, to);
}
template<class T> void gelu(cudaStream_t on, T const* before, std::size_t count, T* to) {
  detail::over_all<T>(
      on, count, [&](launch go, auto n) { go("gelu", detail::gelu<n(), T>, before, count, to); }, before, to);
}
template<class T> void gelu_backward(cudaStream_t on, T const* gradient, T const* before, std::size_t count, T* to) {
  detail::over_all<T>(
      on, count,
      [&](launch go, auto n) { go("gelu_backward", detail::gelu_backward<n(), T>, gradient, before, count, to); },
      gradient, before, to);
}

}  // namespace pipewright::inline v0::gpt2::cuda
