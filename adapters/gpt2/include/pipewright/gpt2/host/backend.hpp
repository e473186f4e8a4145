// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <pipewright/gpt2/backend.hpp>
#include <pipewright/gpt2/host/attention.hpp>
#include <pipewright/gpt2/host/buffer.hpp>
#include <pipewright/gpt2/host/classifier.hpp>
#include <pipewright/gpt2/host/elementwise.hpp>
#include <pipewright/gpt2/host/embedding.hpp>
#include <pipewright/gpt2/host/gemm.hpp>
#include <pipewright/gpt2/host/layer_norm.hpp>
#include <pipewright/gpt2/host/linear.hpp>
#include <pipewright/gpt2/host/parameter_memory.hpp>
#include <pipewright/gpt2/host/tokens.hpp>

namespace pipewright::inline v0::gpt2 {

/// GPT-2's operations in fp32 on the calling thread, over CBLAS: the readable reference that other backends are
/// checked against. Bit-reproducible: every sum has a fixed order, BLAS runs on one thread. No operation allocates.
struct host_backend {
  using value = float;
  using values = host::buffer;
  using numbers = host::buffer;
  using token_ids = host::token_ids;
  using weight_memory = host::parameter_memory;
  using gradient_memory = host::parameter_memory;

  host_backend() { host::use_one_blas_thread(); }

  static constexpr auto& scratch = host::scratch;
  static constexpr auto& place = host::place;
  static constexpr auto& total_loss = host::total_loss;
  static constexpr auto& embed = host::embed;
  static constexpr auto& embed_backward_weights = host::embed_backward_weights;
  static constexpr auto& layer_norm = host::layer_norm;
  static constexpr auto& add_layer_norm = host::add_layer_norm;
  static constexpr auto& layer_norm_backward = host::layer_norm_backward;
  static constexpr auto& add_dropout = host::add_dropout;
  static constexpr auto& dropout_backward = host::dropout_backward;
  static constexpr auto& accumulate = host::accumulate;
  static constexpr auto& linear = host::linear;
  static constexpr auto& linear_gelu = host::linear_gelu;
  static constexpr auto& linear_backward_input = host::linear_backward_input;
  static constexpr auto& linear_gelu_backward_input = host::linear_gelu_backward_input;
  static constexpr auto& linear_backward_weights = host::linear_backward_weights;
  static constexpr auto& attention_scratch = host::attention_scratch;
  static constexpr auto& attention = host::attention;
  static constexpr auto& attention_backward = host::attention_backward;
  static constexpr auto& logits_stride = host::logits_stride;
  static constexpr auto& logits = host::logits;
  static constexpr auto& logits_backward_input = host::logits_backward_input;
  static constexpr auto& logits_backward_weights = host::logits_backward_weights;
  static constexpr auto& classify = host::classify;
};

static_assert(backend<host_backend>);

}  // namespace pipewright::inline v0::gpt2
