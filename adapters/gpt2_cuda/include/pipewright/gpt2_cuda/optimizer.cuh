// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <pipewright/gpt2_cuda/device.cuh>
#include <pipewright/pipeline/optimizer.hpp>
#include <pipewright/stage/random.hpp>

namespace pipewright::inline v0::gpt2::cuda {

namespace detail {

template<number G>
__global__ void adam_update(float const* newest, G const* gradient, std::size_t count, adam::terms<float> a,
                            float* fresh, float* m, float* v) {
  std::size_t const i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float const old = newest[i], g = wide(gradient[i]) * a.scale + a.l2 * old;
  float const first = m[i] = a.beta1 * m[i] + a.rest1 * g;
  float const second = v[i] = a.beta2 * v[i] + a.rest2 * g * g;
  fresh[i] = a.keep * old - a.size * first / (sqrtf(second) * a.correction + a.epsilon);
}

/// Up or down with the chance that keeps the mean: the upper 16 of 32 bits, after a random number below 2^16 is added.
template<class Random> __global__ void round_stochastically(float const* from, std::size_t count, Random random,
                                                            bf16* to) {
  std::size_t const i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  std::uint32_t bits;
  memcpy(&bits, from + i, sizeof bits);
  bool const is_finite = (bits & 0x7f800000) != 0x7f800000;
  if (is_finite) bits += random.bits(i) >> 16;
  std::uint16_t const upper = static_cast<std::uint16_t>(bits >> 16);
  memcpy(to + i, &upper, sizeof upper);
}

/// A block's share of the sum of squares; which numbers are whose does not depend on the device.
template<number T> __global__ void squares(T const* of, std::size_t count, float* parts) {
  float sum = 0;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<std::size_t>(gridDim.x) * blockDim.x)
    sum += wide(of[i]) * wide(of[i]);
  float const all = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = all;
}
template<class Sum> __global__ void sum_of_parts(float const* parts, int count, Sum* to) {
  Sum sum = 0;
  for (int i = 0; i < count; ++i) sum += static_cast<Sum>(parts[i]);
  *to = sum;
}

}  // namespace detail

/// Adam and AdamW, of fp32 weights and states, by a gradient of either type; fresh may be newest. Moves 28 bytes an element and
/// the gradient.
template<number G>
void adam_update(cudaStream_t on, adam const& with, optimizer_step step, parameter_options options, float const* newest,
                 G const* gradient, std::size_t count, float* fresh, float* first_moment, float* second_moment) {
  if (options.frozen) return copy(on, newest, count, fresh);
  launch{on, blocks_for(count, 256), 256}("adam_update", detail::adam_update<G>, newest, gradient, count,
                                          with.terms_of<float>(step, options), fresh, first_moment, second_moment);
}

/// The bf16 weights that stages compute with, from the fp32 ones: rounded up or down at random, so that a change too small for
/// bf16 is there in the mean. A function of `random`, not of when it is called.
inline void round_stochastically(cudaStream_t on, float const* from, std::size_t count, random_stream const& random,
                                 bf16* to) {
  launch{on, blocks_for(count, 256), 256}("round_stochastically", detail::round_stochastically<random_stream>, from,
                                          count, random, to);
}

/// Blocks that a sum of squares is divided among at most: so many numbers of scratch.
inline constexpr unsigned blocks_of_squares = 528;

/// *to = the sum of squares, in double precision over the blocks' shares; not finite where a number is not.
template<number T> void sum_of_squares(cudaStream_t on, T const* of, std::size_t count, float* scratch, double* to) {
  unsigned const blocks = std::min(blocks_of_squares, blocks_for(count, 512));
  launch{on, blocks, 512}("squares", detail::squares<T>, of, count, scratch);
  launch{on, 1, 1}("sum_of_parts", detail::sum_of_parts<double>, scratch, static_cast<int>(blocks), to);
}

}  // namespace pipewright::inline v0::gpt2::cuda
