// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>

#include <pipewright/gpt2/dropout.hpp>
#include <pipewright/gpt2/shapes.hpp>

namespace pipewright::inline v0::gpt2 {

namespace detail {

/// One argument of each kind that an operation takes.
struct operands {
  float const* in;
  float* out;
  std::int32_t const* tokens;
  std::size_t count;
  int width;
  float scale;
  dropout mask;
  row_shape rows;
  linear_shape linear;
  attention_shape attention;
  batch_shape batch;
};

}  // namespace detail

/// Owned device memory: `buffer(n)` is n zeros, `resize(n)` grows it, `data()` and `size()` as std::vector has them.
/// upload and download copy values from and to host memory, and are done when they return. `scratch(n)` is room for n values
/// while one action of a stage runs, shared by all stages of a rank.
template<class B>
concept has_memory = std::copyable<typename B::buffer> && std::constructible_from<typename B::buffer, std::size_t> &&
                     requires(B on, typename B::buffer b, std::size_t n, float const* from, float* to) {
                       { b.data() } -> std::convertible_to<float*>;
                       { b.size() } -> std::convertible_to<std::size_t>;
                       b.resize(n);
                       B::upload(from, n, to);
                       B::download(from, n, to);
                       { on.scratch(n) } -> std::convertible_to<float*>;
                     };

template<class B>
concept has_embedding = requires(B b, detail::operands o) {
  b.embed(o.tokens, o.in, o.in, o.batch, o.width, o.mask, o.out);
  b.embed_backward_weights(o.tokens, o.in, o.batch, o.width, o.mask, o.out, o.out);
};

template<class B>
concept has_layer_norm = requires(B b, detail::operands o) {
  b.layer_norm(o.in, o.in, o.in, o.rows, o.out, o.out, o.out);
  b.add_layer_norm(o.in, o.in, o.mask, o.in, o.in, o.rows, o.out, o.out, o.out, o.out);
  b.layer_norm_backward(o.in, o.in, o.in, o.in, o.in, o.in, o.rows, o.out, o.out, o.out);
};

template<class B>
concept has_elementwise = requires(B b, detail::operands o) {
  b.add_dropout(o.in, o.in, o.count, o.mask, o.out);
  b.dropout_backward(o.in, o.count, o.mask, o.out);
  b.accumulate(o.in, o.count, o.out);
};

template<class B>
concept has_linear = requires(B b, detail::operands o) {
  b.linear(o.in, o.in, o.in, o.linear, o.out);
  b.linear_gelu(o.in, o.in, o.in, o.linear, o.out, o.out);
  b.linear_backward_input(o.in, o.in, o.linear, o.out);
  b.linear_gelu_backward_input(o.in, o.in, o.in, o.linear, o.out, o.out);
  b.linear_backward_weights(o.in, o.in, o.linear, o.out, o.out);
};

template<class B>
concept has_attention = requires(B b, detail::operands o) {
  { b.attention_scratch(o.attention) } -> std::convertible_to<std::size_t>;
  b.attention(o.in, o.attention, o.mask, o.out, o.out, o.out);
  b.attention_backward(o.in, o.in, o.in, o.in, o.attention, o.mask, o.out, o.out);
};

template<class B>
concept has_classifier = requires(B b, detail::operands o) {
  b.logits(o.in, o.in, o.linear, o.out);
  b.logits_backward_input(o.in, o.in, o.linear, o.out);
  b.logits_backward_weights(o.in, o.in, o.linear, o.out);
  b.classify(o.out, o.tokens, o.rows, o.scale, o.out);
};

/// Computes GPT-2's operations, fused as a fast device wants them; the stages are written once over it.
/// Needs: a `buffer` type and the operations of the has_ concepts above, with the meaning, the argument order and the
/// permitted overlaps documented at the host backend's functions of the same names.
/// Promises: an operation works on the caller's memory and allocates none; the gradients of weights are added (+=),
/// all other results overwrite; equal arguments give equal bits. Backward comes in halves: *_backward_input and
/// *_backward_weights use disjoint results, so that a schedule may run the second half later.
/// Not required: finishing before the call returns (a device may queue), thread safety of one backend object.
/// Minimal model: host_backend.
template<class B>
concept backend = std::copyable<B> && has_memory<B> && has_embedding<B> && has_layer_norm<B> && has_elementwise<B> &&
                  has_linear<B> && has_attention<B> && has_classifier<B>;

}  // namespace pipewright::inline v0::gpt2
