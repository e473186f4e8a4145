// SPDX-License-Identifier: Apache-2.0
#pragma once
// All operations in both types, for the rest of a program, which then needs no nvcc: included in one .cu of it.

#include <tuple>

#include <pipewright/gpt2_cuda/attention.cuh>
#include <pipewright/gpt2_cuda/classifier.cuh>
#include <pipewright/gpt2_cuda/column_sums.cuh>
#include <pipewright/gpt2_cuda/elementwise.cuh>
#include <pipewright/gpt2_cuda/embedding.cuh>
#include <pipewright/gpt2_cuda/layer_norm.cuh>
#include <pipewright/gpt2_cuda/optimizer.cuh>
#include <pipewright/gpt2_cuda/sums.cuh>

namespace pipewright::inline v0::gpt2::cuda {

/// Their addresses, for which they must be there.
template<number T> extern std::tuple const operations_of{&embed<T>,
                                                         &embed_backward_weights<T>,
                                                         &layer_norm<T>,
                                                         &add_layer_norm<T>,
                                                         &layer_norm_backward<T>,
                                                         &add_dropout<T>,
                                                         &dropout_backward<T>,
                                                         &accumulate<float>,
                                                         &gelu<T>,
                                                         &gelu_backward<T>,
                                                         &attention<T>,
                                                         &attention_backward<T>,
                                                         &classify<T>,
                                                         &add_columns<T>,
                                                         &sum<false, T>,
                                                         &sum<true, T>,
                                                         &adam_update<float>,
                                                         &sgd_update<float>,
                                                         &round_stochastically<bf16>};
template std::tuple const operations_of<float>;
template std::tuple const operations_of<bf16>;

}  // namespace pipewright::inline v0::gpt2::cuda
