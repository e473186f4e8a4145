// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <pipewright/gpt2_cuda/device.cuh>
#include <pipewright/gpt2_cuda/operations.hpp>
#include <pipewright/pipeline/optimizer.hpp>

namespace pipewright::inline v0::gpt2::cuda {

namespace detail {

template<number G>
__global__ void adam_update(adam::terms<float> const* terms, float const* newest, G const* gradient, std::size_t count,
                            float* fresh, float* m, float* v) {
  adam::terms<float> const a = *terms;
  std::size_t const i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float const old = newest[i], g = wide(gradient[i]) * a.scale + a.l2 * old;
  float const first = m[i] = a.beta1 * m[i] + a.rest1 * g;
  float const second = v[i] = a.beta2 * v[i] + a.rest2 * g * g;
  fresh[i] = a.keep * old - a.size * first / (sqrtf(second) * a.correction + a.epsilon);
}

/// 64 well mixed bits: the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
__device__ inline std::uint64_t mixed(std::uint64_t v) {
  v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9;
  v = (v ^ v >> 27) * 0x94d049bb133111eb;
  return v ^ v >> 31;
}

/// Up or down with the chance that keeps the mean: the upper 16 of 32 bits, after a random number below 2^16 is added.
template<std::same_as<bf16> T>
__global__ void round_stochastically(float const* from, std::size_t count, std::uint64_t key, T* to) {
  std::size_t const i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  std::uint32_t bits;
  memcpy(&bits, from + i, sizeof bits);
  bool const is_finite = (bits & 0x7f800000) != 0x7f800000;
  if (is_finite) bits += static_cast<std::uint32_t>(mixed(mixed(key + i) ^ bits) >> 48);
  std::uint16_t const upper = static_cast<std::uint16_t>(bits >> 16);
  memcpy(to + i, &upper, sizeof upper);
}

template<number G>
__global__ void sgd_update(sgd::terms<float> const* terms, float const* newest, G const* gradient, std::size_t count,
                           float* fresh, float* moving) {
  std::size_t const i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  auto const [rate, momentum, decay, scale] = *terms;
  float const old = newest[i], now = moving[i] = momentum * moving[i] + (wide(gradient[i]) * scale + decay * old);
  fresh[i] = old - rate * now;
}

}  // namespace detail

template<class G>
void adam_update(cudaStream_t on, adam::terms<float> const* terms, float const* newest, G const* gradient,
                 std::size_t count, float* fresh, float* first_moment, float* second_moment) {
  launch{on, blocks_for(count, 256), 256}("adam_update", detail::adam_update<G>, terms, newest, gradient, count, fresh,
                                          first_moment, second_moment);
}

template<class G>
void sgd_update(cudaStream_t on, sgd::terms<float> const* terms, float const* newest, G const* gradient,
                std::size_t count, float* fresh, float* moving) {
  launch{on, blocks_for(count, 256), 256}("sgd_update", detail::sgd_update<G>, terms, newest, gradient, count, fresh,
                                          moving);
}

template<class T>
void round_stochastically(cudaStream_t on, float const* from, std::size_t count, std::uint64_t key, T* to) {
  launch{on, blocks_for(count, 256), 256}("round_stochastically", detail::round_stochastically<T>, from, count, key,
                                          to);
}

}  // namespace pipewright::inline v0::gpt2::cuda
