// SPDX-License-Identifier: Apache-2.0
#pragma once
// GPT-2's operations on the device: what they do, and how they are called by any compiler. They are defined in the .cuh headers, for
// nvcc; instantiate.cuh makes them all, in one place of a program (CMake: the target pipewright::gpt2_cuda has it). Each is queued on a
// stream, works on the caller's memory, and throws error where CUDA refuses. T is float or bf16, and no constraint says so: compilers
// spell those differently in the names that they link by.

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include <pipewright/gpt2/shapes.hpp>
#include <pipewright/gpt2_cuda/device_dropout.hpp>
#include <pipewright/gpt2_cuda/grids.hpp>
#include <pipewright/gpt2_cuda/numbers.hpp>
#include <pipewright/pipeline/optimizer.hpp>

namespace pipewright::inline v0::gpt2::cuda {

/// out = dropout(token_table[token] + position_table[position]); `tokens` is on the device.
template<class T>
void embed(cudaStream_t on, std::int32_t const* tokens, T const* token_table, T const* position_table,
           batch_shape batch, int width, device_dropout const& mask, T* out);

/// Adds the gradient of the output into both tables' gradients. `rows`, `begins` and `tokens` are those of rows_by_token, on the
/// device, as is the number of tokens there: a launch does not depend on what the tokens are.
template<class T>
void embed_backward_weights(cudaStream_t on, std::int32_t const* rows, std::int32_t const* begins,
                            std::int32_t const* tokens, std::int32_t const* distinct, T const* gradient,
                            batch_shape batch, int width, device_dropout const& mask, float* token_gradient,
                            float* position_gradient);

/// y = (x - mean) / sqrt(variance + 1e-5) * weight + bias, row by row; keeps each row's mean and reciprocal deviation.
template<class T>
void layer_norm(cudaStream_t on, T const* x, T const* weight, T const* bias, row_shape s, T* y, float* mean,
                float* reciprocal);

/// total = base + dropout(branch), then y = layer_norm(total), of total as it was rounded. `total` may be either.
template<class T>
void add_layer_norm(cudaStream_t on, T const* base, T const* branch, device_dropout const& mask, T const* weight,
                    T const* bias, row_shape s, T* total, T* y, float* mean, float* reciprocal);

/// Writes dx = residual_gradient + the norm's input gradient, and the micro-batch's weight and bias gradients.
/// `residual_gradient` may be null; dx may be dy or x. `scratch` has norm_backward_grid(s).scratch(s) numbers.
template<class T>
void layer_norm_backward(cudaStream_t on, T const* x, float const* mean, float const* reciprocal, T const* weight,
                         T const* dy, T const* residual_gradient, row_shape s, float* scratch, T* dx,
                         float* weight_gradient, float* bias_gradient);

/// to[i] = base[i] + dropout(branch[i]); `to` may be either. Moves 3 numbers an element.
template<class T>
void add_dropout(cudaStream_t on, T const* base, T const* branch, std::size_t count, device_dropout const& mask, T* to);

/// to[i] = gradient[i] * factor of element i; `to` may be `gradient`.
template<class T>
void dropout_backward(cudaStream_t on, T const* gradient, std::size_t count, device_dropout const& mask, T* to);

/// to[i] += from[i].
template<class T>
void accumulate(cudaStream_t on, T const* from, std::size_t count, float* to);

/// to[i] = gelu(before[i]).
template<class T>
void gelu(cudaStream_t on, T const* before, std::size_t count, T* to);

/// to[i] = gradient[i] * gelu'(before[i]); `to` may be either.
template<class T>
void gelu_backward(cudaStream_t on, T const* gradient, T const* before, std::size_t count, T* to);

/// Causal self-attention, out = dropout(softmax(q k^T / sqrt(head size))) v for each head, as FlashAttention-2 computes it (Dao,
/// arXiv 2307.08691): of the probabilities only each row's log-sum-exp is kept. In fp32 arithmetic; bf16's products on tensor cores,
/// of probabilities rounded to bf16, where all pointers are multiples of 16 and the head size one of 8.
template<class T>
void attention(cudaStream_t on, T const* qkv, attention_shape s, device_dropout const& mask, T* out,
               float* log_sum_exp);

/// The gradients of queries, keys and values, laid out as qkv, in d_qkv, which may be qkv. Every sum has one order: keys have blocks
/// of their own, and queries have, so that no two blocks add to one number. The queries' come first; where qkv is to be kept until
/// the keys' have read it, they wait in scratch.
template<class T>
void attention_backward(cudaStream_t on, T const* qkv, T const* out, float const* log_sum_exp, T const* d_out,
                        attention_shape s, device_dropout const& mask, T* scratch, T* d_qkv);

/// Softmax cross entropy of every row, and its gradient in place of the logits: losses[row] = -log p(target),
/// logits := (p - one_hot(target)) * gradient_scale. A row whose target is negative has a loss and a gradient of 0. s is rows x
/// vocabulary; rows begin `stride` apart, and what lies between is set to 0.
template<class T>
void classify(cudaStream_t on, T* logits, std::int32_t const* targets, row_shape s, int stride, float gradient_scale,
              float* losses);

/// to[j] += the sum of column j: a bias's gradient. `scratch` has room as column_sum_grid says. Reads each number once.
template<class T>
void add_columns(cudaStream_t on, T const* of, row_shape s, float* scratch, float* to);

/// Adam and AdamW, of fp32 weights and states, by a gradient of either type; `terms` lie on the device. fresh may be newest. Moves
/// 28 bytes an element and the gradient.
template<class G>
void adam_update(cudaStream_t on, adam::terms<float> const* terms, float const* newest, G const* gradient,
                 std::size_t count, float* fresh, float* first_moment, float* second_moment);

/// Stochastic gradient descent, likewise; `moving` is the momentum's buffer.
template<class G>
void sgd_update(cudaStream_t on, sgd::terms<float> const* terms, float const* newest, G const* gradient,
                std::size_t count, float* fresh, float* moving);

/// The bf16 weights that stages compute with, from the fp32 ones: rounded up or down at random, so that a change too small for
/// bf16 is there in the mean. A function of the numbers, their places and the key, not of when it is called: what a checkpoint or
/// another rank makes of the same fp32 weights is the same bits.
template<class T>
void round_stochastically(cudaStream_t on, float const* from, std::size_t count, std::uint64_t key, T* to);

/// *to = the sum of all numbers, or of their squares, in double precision over the blocks' shares, always in one order; not finite
/// where a number is not.
template<bool Squares, class T>
void sum(cudaStream_t on, T const* of, std::size_t count, float* scratch, double* to);

}  // namespace pipewright::inline v0::gpt2::cuda
