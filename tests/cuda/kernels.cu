// SPDX-License-Identifier: Apache-2.0
// All kernels in both types: compiling is passing.
#include <cstdint>

#include <pipewright/gpt2_cuda/attention.cuh>
#include <pipewright/gpt2_cuda/classifier.cuh>
#include <pipewright/gpt2_cuda/elementwise.cuh>
#include <pipewright/gpt2_cuda/embedding.cuh>
#include <pipewright/gpt2_cuda/layer_norm.cuh>
#include <pipewright/gpt2_cuda/optimizer.cuh>
#include <pipewright/gpt2_cuda/sums.cuh>

namespace cuda = pipewright::gpt2::cuda;

template<class T> void every_kernel(cudaStream_t on, T* at, float* numbers, double* sum, std::int32_t* tokens) {
  cuda::add_dropout<T>(on, at, at, 1, {}, at);
  cuda::dropout_backward<T>(on, at, 1, {}, at);
  cuda::accumulate(on, numbers, 1, numbers);
  cuda::gelu<T>(on, at, 1, at);
  cuda::gelu_backward<T>(on, at, at, 1, at);
  cuda::layer_norm<T>(on, at, at, at, {1, 1}, at, numbers, numbers);
  cuda::add_layer_norm<T>(on, at, at, {}, at, at, {1, 1}, at, at, numbers, numbers);
  cuda::layer_norm_backward<T>(on, at, numbers, numbers, at, at, at, {1, 1}, numbers, at, numbers, numbers);
  cuda::embed<T>(on, tokens, at, at, {1, 1}, 1, {}, at);
  cuda::embed_backward_weights<T>(on, tokens, tokens, tokens, tokens, at, {1, 1}, 1, {}, numbers, numbers);
  cuda::classify<T>(on, at, tokens, {1, 1}, 1, 1, numbers);
  cuda::attention<T>(on, at, {1, 1, 1, 64}, {}, at, numbers);
  cuda::attention_backward<T>(on, at, at, numbers, at, {1, 1, 1, 64}, {}, at, at);
  cuda::adam_update<T>(on, nullptr, numbers, at, 1, numbers, numbers, numbers);
  cuda::sgd_update<T>(on, nullptr, numbers, at, 1, numbers, numbers);
  cuda::sum<true, T>(on, at, 1, numbers, sum);
}
template void every_kernel(cudaStream_t, float*, float*, double*, std::int32_t*);
template void every_kernel(cudaStream_t, cuda::bf16*, float*, double*, std::int32_t*);
