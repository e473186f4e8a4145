// SPDX-License-Identifier: Apache-2.0
#pragma once
// What GPT-2's kernels are written with: packs of numbers, sums over a warp and a block, launches.

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include <cuda_runtime.h>

#include <pipewright/cuda/queue.hpp>
#include <pipewright/error.hpp>
#include <pipewright/gpt2_cuda/device_dropout.hpp>
#include <pipewright/gpt2_cuda/grids.hpp>
#include <pipewright/gpt2_cuda/numbers.hpp>

namespace pipewright::inline v0::gpt2::cuda {

__device__ __host__ inline float wide(float v) { return v; }
__device__ __host__ inline float wide(bf16 v) { return __bfloat162float(v); }
template<number T> __device__ __host__ T narrow(float v) {
  if constexpr (std::is_same_v<T, float>) return v;
  else return __float2bfloat16_rn(v);
}

/// N neighbours, read and written at once.
template<number T, int N> struct alignas(sizeof(T) * N) pack {
  T numbers[N];

  __device__ float operator[](int i) const { return wide(numbers[i]); }
  __device__ void set(int i, float v) { numbers[i] = narrow<T>(v); }
};
/// Numbers in 16 bytes: what a thread reads best at once.
template<number T> inline constexpr int wide_pack = 16 / static_cast<int>(sizeof(T));

template<int N, number T> __device__ pack<T, N> load(T const* from) {
  return *reinterpret_cast<pack<T, N> const*>(from);
}
template<int N, number T> __device__ void store(T* to, pack<T, N> const& from) {
  *reinterpret_cast<pack<T, N>*>(to) = from;
}

/// Calls use(std::integral_constant<int, N>) with the numbers that a pack may have where rows have `width` numbers and all of
/// `at` are where it needs them: 16 bytes of them, or one.
template<number T> void with_packs(int width, auto const& use, auto const*... at) {
  bool const fits = width % wide_pack<T> == 0 && (... && (reinterpret_cast<std::uintptr_t>(at) % 16 == 0));
  if (fits) use(std::integral_constant<int, wide_pack<T>>());
  else use(std::integral_constant<int, 1>());
}

/// The dropout factors of N neighbours, of which the first is a multiple of N.
template<int N> struct drop_factors {
  float factors[N];

  __device__ drop_factors(dropout const& mask, std::size_t first) {
    if (mask.probability == 0.f) {
      for (float& each : factors) each = 1.f;
    } else if constexpr (N % 4 == 0) {
      for (int i = 0; i < N; i += 4) {
        auto const four = mask.stream.four((first + i) / 4);
        for (int k = 0; k < 4; ++k) factors[i + k] = four[k] < mask.threshold() ? 0.f : mask.scale();
      }
    } else {
      for (int i = 0; i < N; ++i) factors[i] = mask.factor(first + i);
    }
  }
  __device__ float operator[](int i) const { return factors[i]; }
};

inline constexpr unsigned all_lanes = 0xffffffff;

inline constexpr float lowest = -3.402823466e38f;

/// The sum over so many neighbouring lanes of a warp, in each of them, always in one order.
template<int Among = lanes> __device__ float warp_sum(float v) {
  for (int away = Among / 2; away > 0; away /= 2) v += __shfl_xor_sync(all_lanes, v, away);
  return v;
}
template<int Among = lanes> __device__ float warp_largest(float v) {
  for (int away = Among / 2; away > 0; away /= 2) {
    float const other = __shfl_xor_sync(all_lanes, v, away);
    v = other > v ? other : v;
  }
  return v;
}

namespace detail {
/// A block's value from its warps': `of_warp` joins those of a warp, `none` changes nothing. For all threads of a block at once.
template<float (*OfWarp)(float)> __device__ float over_block(float v, float none) {
  __shared__ float of_warps[lanes];
  int const lane = static_cast<int>(threadIdx.x) % lanes, warps = static_cast<int>(blockDim.x) / lanes;
  v = OfWarp(v);
  __syncthreads();  // what the call before this one left has been read
  if (lane == 0) of_warps[threadIdx.x / lanes] = v;
  __syncthreads();
  return OfWarp(lane < warps ? of_warps[lane] : none);
}
}  // namespace detail

/// The sum over a block, in every thread, always in one order.
__device__ inline float block_sum(float v) { return detail::over_block<warp_sum<lanes>>(v, 0.f); }
__device__ inline float block_largest(float v) { return detail::over_block<warp_largest<lanes>>(v, lowest); }

/// The memory that a launch asked for.
template<class T> __device__ T* shared_memory() {
#ifdef __CUDACC__
  extern __shared__ __align__(16) std::byte pipewright_shared[];
  return reinterpret_cast<T*>(pipewright_shared);
#else
  return reinterpret_cast<T*>(cuda_on_host::shared);
#endif
}

/// How many blocks and threads a kernel gets, bytes of shared memory, and the stream that it waits its turn on.
struct launch {
  cudaStream_t on;
  unsigned blocks, threads;
  std::size_t shared = 0;
  unsigned rows_of_blocks = 1;
  unsigned gap = 0;  // said outright: two equal launches are the same bytes

  /// Throws error where CUDA refuses.
  template<class... Takes> void operator()(char const* name, void (*kernel)(Takes...),
                                           std::type_identity_t<Takes>... given) const {
    if (blocks > 0) pipewright::cuda::queue(name, on, &start<Takes...>, *this, kernel, given...);
  }

 private:
  template<class... Takes>
  static cudaError_t start(cudaStream_t on, launch how, void (*kernel)(Takes...), Takes... given) {
    cudaLaunchConfig_t shape{};
    shape.gridDim = {how.blocks, how.rows_of_blocks, 1};
    shape.blockDim = {how.threads, 1, 1};
    shape.dynamicSmemBytes = how.shared;
    shape.stream = on;
    if (how.shared > ungranted_shared)  // what only those get that ask for it
      if (auto const code =
              cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(how.shared));
          code != cudaSuccess)
        return code;
    return cudaLaunchKernelEx(&shape, kernel, given...);
  }
};

}  // namespace pipewright::inline v0::gpt2::cuda
