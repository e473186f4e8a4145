// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include <pipewright/gpt2/dropout.hpp>
#include <pipewright/gpt2/parameters.hpp>
#include <pipewright/gpt2/shapes.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0::gpt2 {

namespace detail {

/// One argument of each kind that an operation takes.
template<class B>
struct operands {
  typename B::value const* in;
  typename B::value* out;
  float const* numbers_in;
  float* numbers;
  typename B::token_ids const& tokens;
  std::size_t count;
  int width;
  float scale;
  keyed_dropout mask;
  row_shape rows;
  linear_shape linear;
  attention_shape attention;
  batch_shape batch;
};

template<class M, class T>
concept memory_of = std::copyable<M> && std::constructible_from<M, std::size_t> && requires(M m, std::size_t n) {
  { m.data() } -> std::convertible_to<T*>;
  { m.size() } -> std::convertible_to<std::size_t>;
  m.resize(n);
};

}  // namespace detail

/// The types of numbers and where they lie. `value`: what weights are read as, and activations and their gradients kept in;
/// statistics, losses and the gradients of weights are fp32. `values` and `numbers`: owned memory of values and of floats;
/// `values(n)` is n zeros, `resize(n)` makes room for n, what was held is lost; `data()` and `size()` as std::vector has them.
/// `scratch(n)` is room for n values while one action of a stage runs, shared by all stages of a rank.
template<class B>
concept has_memory = detail::memory_of<typename B::values, typename B::value> &&
                     detail::memory_of<typename B::numbers, float> && requires(B on, std::size_t n) {
                       { on.scratch(n) } -> std::convertible_to<typename B::value*>;
                     };

/// Where a layer's tensors lie: `weight_memory(parameters)` and `gradient_memory(parameters)`, zeros at first. `m[i]` is the
/// first value of the i-th weight, or the first number of its gradient; m.view(i) what its visitors are given, a span of floats
/// or a remote_parameter; m.write(i, floats) sets it from the host's memory, and is done when it returns.
template<class B>
concept has_parameters = std::constructible_from<typename B::weight_memory, std::span<parameter const>> &&
                         std::constructible_from<typename B::gradient_memory, std::span<parameter const>> &&
                         requires(typename B::weight_memory w, typename B::weight_memory const cw,
                                  typename B::gradient_memory g, std::span<float const> from) {
                           { cw[0] } -> std::convertible_to<typename B::value const*>;
                           { g[0] } -> std::convertible_to<float*>;
                           cw.view(0);
                           g.view(0);
                           w.write(0, from);
                         };

/// `place(ids, to, sorted)` puts token numbers, of the host's memory, where the operations read them: into a `token_ids`, over what
/// it held. `sorted`: embed_backward_weights will follow. `total_loss(losses, n, micro_batch)` is the sum of n losses, known at
/// once or later, until the next of that micro-batch.
template<class B>
concept has_tokens = std::default_initializable<typename B::token_ids> && std::movable<typename B::token_ids> &&
                     requires(B b, std::span<std::int32_t const> ids, typename B::token_ids to, float const* losses) {
                       b.place(ids, to, true);
                       { b.total_loss(losses, std::size_t{}, 0) } -> std::same_as<loss>;
                     };

template<class B>
concept has_embedding = requires(B b, detail::operands<B> o) {
  b.embed(o.tokens, o.in, o.in, o.batch, o.width, o.mask, o.out);
  b.embed_backward_weights(o.tokens, o.in, o.batch, o.width, o.mask, o.numbers, o.numbers);
};

template<class B>
concept has_layer_norm = requires(B b, detail::operands<B> o) {
  b.layer_norm(o.in, o.in, o.in, o.rows, o.out, o.numbers, o.numbers);
  b.add_layer_norm(o.in, o.in, o.mask, o.in, o.in, o.rows, o.out, o.out, o.numbers, o.numbers);
  b.layer_norm_backward(o.in, o.numbers_in, o.numbers_in, o.in, o.in, o.in, o.rows, o.out, o.numbers, o.numbers);
};

template<class B>
concept has_elementwise = requires(B b, detail::operands<B> o) {
  b.add_dropout(o.in, o.in, o.count, o.mask, o.out);
  b.dropout_backward(o.in, o.count, o.mask, o.out);
  b.accumulate(o.numbers_in, o.count, o.numbers);
};

template<class B>
concept has_linear = requires(B b, detail::operands<B> o) {
  b.linear(o.in, o.in, o.in, o.linear, o.out);
  b.linear_gelu(o.in, o.in, o.in, o.linear, o.out, o.out);
  b.linear_backward_input(o.in, o.in, o.linear, o.out);
  b.linear_gelu_backward_input(o.in, o.in, o.in, o.linear, o.out, o.out);
  b.linear_backward_weights(o.in, o.in, o.linear, o.numbers, o.numbers);
};

template<class B>
concept has_attention = requires(B b, detail::operands<B> o) {
  { b.attention_scratch(o.attention) } -> std::convertible_to<std::size_t>;
  b.attention(o.in, o.attention, o.mask, o.out, o.out, o.numbers);
  b.attention_backward(o.in, o.in, o.numbers_in, o.in, o.attention, o.mask, o.out, o.out);
};

/// `logits_stride(vocabulary)`: from row to row of the logits, which may have room between.
template<class B>
concept has_classifier = requires(B b, detail::operands<B> o) {
  { B::logits_stride(1) } -> std::same_as<int>;
  b.logits(o.in, o.in, o.linear, o.out);
  b.logits_backward_input(o.in, o.in, o.linear, o.out);
  b.logits_backward_weights(o.in, o.in, o.linear, o.numbers);
  b.classify(o.out, o.tokens, o.rows, o.scale, o.numbers);
};

/// Computes GPT-2's operations, fused as a fast device wants them; the stages are written once over it.
/// Needs: the types and the operations of the has_ concepts above, with the meaning, the argument order and the
/// permitted overlaps documented at the host backend's functions of the same names.
/// Promises: an operation works on the caller's memory and allocates none; the gradients of weights are added (+=),
/// all other results overwrite; equal arguments give equal bits. Backward comes in halves: *_backward_input and
/// *_backward_weights use disjoint results, so that a schedule may run the second half later.
/// Not required: finishing before the call returns (a device may queue), thread safety of one backend object.
/// Minimal model: host_backend.
template<class B>
concept backend = std::copyable<B> && has_memory<B> && has_parameters<B> && has_tokens<B> && has_embedding<B> &&
                  has_layer_norm<B> && has_elementwise<B> && has_linear<B> && has_attention<B> && has_classifier<B>;

}  // namespace pipewright::inline v0::gpt2
