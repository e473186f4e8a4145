// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include <pipewright/cuda/constants.hpp>
#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/memory.hpp>
#include <pipewright/cuda/products.hpp>
#include <pipewright/gpt2/backend.hpp>
#include <pipewright/gpt2/model.hpp>
#include <pipewright/gpt2_cuda/attentions.hpp>
#include <pipewright/gpt2_cuda/late_sums.hpp>
#include <pipewright/gpt2_cuda/linear.hpp>
#include <pipewright/gpt2_cuda/operations.hpp>
#include <pipewright/gpt2_cuda/parameters.hpp>
#include <pipewright/gpt2_cuda/tokens.hpp>

namespace pipewright::inline v0::gpt2::cuda {

/// GPT-2's operations on an NVIDIA GPU, in fp32 or bf16: kernels of our own, cuBLASLt's products, and cuDNN's
/// attention where it is there and faster (attentions.hpp). Everything is queued on the
/// stream of the context in which it is made; the host waits for nothing. All arithmetic is in fp32, gradients of weights are fp32;
/// with bf16, weights are kept in fp32 beside the bf16 ones that are computed with, and updates round at random. Every sum has one
/// order, so that results are the same bits in every run, under every schedule and cut.
template<number T> class backend {
 public:
  using value = T;
  using values = buffer<T>;
  using numbers = buffer<float>;
  using token_ids = cuda::token_ids;
  using weight_memory = parameter_memory<T>;
  using gradient_memory = parameter_memory<float>;

  /// What a rank's stages share is made now, before ranks connect: asking CUDA for it may wait for the device.
  backend() : here_{&context::here()} {
    here_->kept<pipewright::cuda::products>();
    here_->kept<late_sums>();
    here_->kept<late_squares>();
  }

  T* scratch(std::size_t n) { return here_->kept<pipewright::cuda::scratch>().template room<T>(n); }

  void place(std::span<std::int32_t const> ids, token_ids& to, bool sorted) { to.place(ids, sorted); }
  loss total_loss(float const* losses, std::size_t count, int micro_batch) {
    auto& sum_of = here_->kept<late_sums>().of(static_cast<std::size_t>(micro_batch));
    sum<false>(on(), losses, count, room(most_shares), sum_of.on_device());
    sum_of.come();
    return {.value = 1, .weight = 1, .times = &sum_of};
  }

  void embed(token_ids const& tokens, T const* token_table, T const* position_table, batch_shape batch, int width,
             keyed_dropout const& mask, T* out) {
    cuda::embed(on(), tokens.ids(), token_table, position_table, batch, width, placed(mask), out);
  }
  void embed_backward_weights(token_ids const& tokens, T const* gradient, batch_shape batch, int width,
                              keyed_dropout const& mask, float* token_gradient, float* position_gradient) {
    cuda::embed_backward_weights(on(), tokens.rows(), tokens.begins(), tokens.tokens(), tokens.distinct(), gradient,
                                 batch, width, placed(mask), token_gradient, position_gradient);
  }

  void layer_norm(T const* x, T const* weight, T const* bias, row_shape s, T* y, float* mean, float* reciprocal) {
    cuda::layer_norm(on(), x, weight, bias, s, y, mean, reciprocal);
  }
  void add_layer_norm(T const* base, T const* branch, keyed_dropout const& mask, T const* weight, T const* bias,
                      row_shape s, T* total, T* y, float* mean, float* reciprocal) {
    cuda::add_layer_norm(on(), base, branch, placed(mask), weight, bias, s, total, y, mean, reciprocal);
  }
  void layer_norm_backward(T const* x, float const* mean, float const* reciprocal, T const* weight, T const* dy,
                           T const* residual_gradient, row_shape s, T* dx, float* weight_gradient,
                           float* bias_gradient) {
    auto* const parts = room(norm_backward_grid(s).scratch(s));
    cuda::layer_norm_backward(on(), x, mean, reciprocal, weight, dy, residual_gradient, s, parts, dx, weight_gradient,
                              bias_gradient);
  }

  void add_dropout(T const* base, T const* branch, std::size_t count, keyed_dropout const& mask, T* to) {
    cuda::add_dropout(on(), base, branch, count, placed(mask), to);
  }
  void dropout_backward(T const* gradient, std::size_t count, keyed_dropout const& mask, T* to) {
    cuda::dropout_backward(on(), gradient, count, placed(mask), to);
  }
  void accumulate(float const* from, std::size_t count, float* to) { cuda::accumulate(on(), from, count, to); }

  void linear(T const* x, T const* weight, T const* bias, linear_shape s, T* y) {
    multiply({s.rows, s.out, s.in}, x, weight, y, pipewright::cuda::epilogue<T>::bias(bias));
  }
  void linear_gelu(T const* x, T const* weight, T const* bias, linear_shape s, T* before, T* y) {
    fusing().gelu(x, weight, bias, s, before, y);
  }
  void linear_backward_input(T const* dy, T const* weight, linear_shape s, T* dx) {
    multiply({.m = s.rows, .n = s.in, .k = s.out, .b_transposed = true}, dy, weight, dx);
  }
  void linear_gelu_backward_input(T const* dy, T const* weight, T const* before, linear_shape s, T* scratch,
                                  T* d_before) {
    fusing().gelu_backward(dy, weight, before, s, scratch, d_before);
  }
  void linear_backward_weights(T const* x, T const* dy, linear_shape s, float* weight_gradient, float* bias_gradient) {
    fusing().backward_weights(x, dy, s, weight_gradient, bias_gradient);
  }

  static std::size_t attention_scratch(attention_shape s) { return cuda::attention_scratch(s); }
  void attention(T const* qkv, attention_shape s, keyed_dropout const& mask, T* /*scratch*/, T* out,
                 float* log_sum_exp) {
    if constexpr (std::is_same_v<T, bf16>) here_->kept<attentions>().forward(qkv, s, placed(mask), out, log_sum_exp);
    else cuda::attention(on(), qkv, s, placed(mask), out, log_sum_exp);
  }
  void attention_backward(T const* qkv, T const* out, float const* log_sum_exp, T const* d_out, attention_shape s,
                          keyed_dropout const& mask, T* scratch, T* d_qkv) {
    if constexpr (std::is_same_v<T, bf16>)
      here_->kept<attentions>().backward(qkv, out, log_sum_exp, d_out, s, placed(mask), scratch, d_qkv);
    else cuda::attention_backward(on(), qkv, out, log_sum_exp, d_out, s, placed(mask), scratch, d_qkv);
  }

  /// A multiple of 64, which tensor cores want of every extent; the table has zeros below its last row (see parameter_memory).
  static int logits_stride(int vocabulary) { return padded_rows(vocabulary); }
  void logits(T const* x, T const* table, linear_shape s, T* y) {
    multiply({.m = s.rows, .n = logits_stride(s.out), .k = s.in, .b_transposed = true}, x, table, y);
  }
  void logits_backward_input(T const* d_logits, T const* table, linear_shape s, T* dx) {
    multiply({s.rows, s.in, logits_stride(s.out)}, d_logits, table, dx);
  }
  void logits_backward_weights(T const* x, T const* d_logits, linear_shape s, float* table_gradient) {
    multiply_and_add({.m = logits_stride(s.out), .n = s.in, .k = s.rows, .a_transposed = true}, d_logits, x,
                     table_gradient);
  }
  void classify(T* logits, token_ids const& targets, row_shape s, float gradient_scale, float* losses) {
    cuda::classify(on(), logits, targets.ids(), s, logits_stride(s.width), gradient_scale, losses);
  }

 private:
  using product = pipewright::cuda::product;

  cudaStream_t on() const {
    if (here_ != context::of_this_thread())
      throw error("pipewright: a stage works where it was not made; call its context's work_here() before");
    return here_->stream();
  }
  /// With the step of its key in the device's memory.
  device_dropout placed(keyed_dropout const& mask) const {
    if (!mask) return {};
    return {mask, here_->kept<pipewright::cuda::constants>().place(mask.random.step)};
  }
  float* room(std::size_t n) { return here_->kept<small_room>().template room<float>(n); }
  linears& fusing() {
    on();
    return here_->kept<linears>();
  }
  void multiply(product p, T const* a, T const* b, T* c, pipewright::cuda::epilogue<T> const& also = {}) {
    here_->kept<pipewright::cuda::products>()(p, a, b, 0.f, c, also);
  }
  void multiply_and_add(product p, T const* a, T const* b, float* c) {
    here_->kept<pipewright::cuda::products>()(p, a, b, 1.f, c);
  }

  context* here_;
};

static_assert(gpt2::backend<backend<float>> && gpt2::backend<backend<bf16>>);

/// The recipe of a GPT-2 on the device: `pw::balance<4, 3, 3, 4>(gpt2::cuda::model<gpt2::cuda::bf16>(sizes))`, for ranks that have a
/// context each, as under pipewright::cuda::loopback::run.
template<number T> auto model(configuration const& c, token_loss over = token_loss::mean) {
  return gpt2::model<backend<T>>(c, over);
}

static_assert(split_backward_stage<embedding<backend<bf16>>> && split_backward_stage<block<backend<bf16>>> &&
              split_backward_stage<head<backend<bf16>>>);

}  // namespace pipewright::inline v0::gpt2::cuda
