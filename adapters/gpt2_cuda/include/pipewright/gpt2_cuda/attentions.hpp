// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/fastest.hpp>
#include <pipewright/cuda/memory.hpp>
#include <pipewright/cuda/products.hpp>
#include <pipewright/gpt2/shapes.hpp>
#include <pipewright/gpt2_cuda/cudnn_attention.hpp>
#include <pipewright/gpt2_cuda/device_dropout.hpp>
#include <pipewright/gpt2_cuda/operations.hpp>

namespace pipewright::inline v0::gpt2::cuda {

/// Attention of a context in bf16: which of the library's own kernels and cuDNN's does it. `context.kept<attentions>()`.
///
/// choice::by_rule takes the library's own, so that results are the same bits whether cuDNN is there or not, and whatever its
/// release. choice::by_timing times both when a shape is first met, forward and backward apart, and takes cuDNN's where they are
/// faster. Where there is dropout, or cuDNN does not serve a shape, it is the library's own in any case.
class attentions {
 public:
  explicit attentions(pipewright::cuda::context& where) : where_{where} {}

  /// For shapes not met before.
  void choose(pipewright::cuda::choice how) {
    takes_ = how == pipewright::cuda::choice::by_timing ? take::faster : take::own;
  }
  /// cuDNN's wherever it can, for shapes not met before: to test and to measure it.
  void prefer_cudnn() { takes_ = take::cudnn; }
  /// Whether that half of a shape has been met, and is cuDNN's.
  bool is_by_cudnn(pass which, attention_shape s) const {
    auto const* const found = find(which, s);
    return found != nullptr && found->by_cudnn;
  }
  /// Why cuDNN's is not taken for some shape that it was wanted for, though it may be fast; empty where there is none.
  std::string const& why_not() const noexcept { return why_not_; }

  /// As cuda::attention.
  void forward(bf16 const* qkv, attention_shape s, device_dropout const& mask, bf16* out, float* log_sum_exp) {
    auto const own = [&] { cuda::attention(where_.stream(), qkv, s, mask, out, log_sum_exp); };
    auto const by_cudnn = [&] { cudnn().forward(qkv, s, out, log_sum_exp); };
    auto const run = [&](std::size_t way) { return way == 0 ? own() : by_cudnn(); };
    auto const is_faster = [&] { return pipewright::cuda::fastest(where_, 2, run) == 1; };
    if (takes_cudnn(pass::forward, s, mask, {qkv, out}, is_faster)) by_cudnn();
    else own();
  }
  /// As cuda::attention_backward.
  void backward(bf16 const* qkv, bf16 const* out, float const* log_sum_exp, bf16 const* d_out, attention_shape s,
                device_dropout const& mask, bf16* scratch, bf16* d_qkv) {
    auto const own = [&](bf16 const* from, bf16* to) {
      cuda::attention_backward(where_.stream(), from, out, log_sum_exp, d_out, s, mask, scratch, to);
    };
    auto const by_cudnn = [&](bf16 const* from, bf16* to) { cudnn().backward(from, out, log_sum_exp, d_out, s, to); };
    auto const is_faster = [&] {
      buffer<bf16> copy;  // what is overwritten can be read once
      copy.resize(3 * query_gradients(s));
      copy.copy_from(qkv);
      bf16* const to = d_qkv == qkv ? copy.data() : d_qkv;
      auto const run = [&](std::size_t way) { return way == 0 ? own(copy.data(), to) : by_cudnn(copy.data(), to); };
      return pipewright::cuda::fastest(where_, 2, run) == 1;
    };
    if (takes_cudnn(pass::backward, s, mask, {qkv, out, d_out, d_qkv}, is_faster)) by_cudnn(qkv, d_qkv);
    else own(qkv, d_qkv);
  }

 private:
  template<class T> using buffer = pipewright::cuda::buffer<T>;
  enum class take { own, faster, cudnn };
  struct met {
    pass which;
    attention_shape shape;
    bool by_cudnn;
  };

  cudnn_attention& cudnn() { return where_.kept<cudnn_attention>(); }

  bool takes_cudnn(pass which, attention_shape s, device_dropout const& mask, std::vector<void const*> const& at,
                   auto const& is_faster) {
    if (mask) return false;
    for (void const* each : at)
      if (reinterpret_cast<std::uintptr_t>(each) % 16 != 0) return false;
    if (auto const* const found = find(which, s)) return found->by_cudnn;
    met_.push_back({which, s, takes_ != take::own && is_worth(which, s, is_faster)});
    return met_.back().by_cudnn;
  }
  bool is_worth(pass which, attention_shape s, auto const& is_faster) {
    if (where_.writes_down() && takes_ == take::faster) return false;
    if (!cudnn().serves(which, s)) {
      why_not_ = cudnn().why_not();
      return false;
    }
    if (takes_ == take::cudnn) return true;
    try {
      return is_faster();
    } catch (std::exception const& e) {
      why_not_ = e.what();
      return false;
    }
  }
  met const* find(pass which, attention_shape s) const {
    for (auto const& each : met_)
      if (each.which == which && each.shape == s) return &each;
    return nullptr;
  }

  pipewright::cuda::context& where_;
  take takes_ = take::own;
  std::vector<met> met_;
  std::string why_not_;
};

}  // namespace pipewright::inline v0::gpt2::cuda
