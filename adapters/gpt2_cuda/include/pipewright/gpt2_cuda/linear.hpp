// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <tuple>
#include <type_traits>
#include <vector>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/fastest.hpp>
#include <pipewright/cuda/memory.hpp>
#include <pipewright/cuda/products.hpp>
#include <pipewright/gpt2/shapes.hpp>
#include <pipewright/gpt2_cuda/operations.hpp>
#include <pipewright/gpt2_cuda/parameters.hpp>

namespace pipewright::inline v0::gpt2::cuda {

/// Where what goes with a linear's product is done: in the product's own kernel, by cuBLASLt's epilogues, or apart, by kernels of ours.
/// Where cuBLASLt has no such product it is done apart.
enum class fusion {
  where_it_wins,  ///< as products::choose says: by timing in the faster place, of equals apart; by rule apart
  always,
  never
};

/// A rank's linears whose product may do more: `context.kept<linears>()`. Under choice::by_timing both places are tried, into memory
/// apart, when a linear of given sizes and types is first met. By rule all is done apart, since the order of sums and the rounding
/// are then those of our kernels, whatever cuBLASLt is there: with bf16, GELU in the product is of numbers before they are rounded.
class linears {
 public:
  enum class operation { gelu, gelu_backward, backward_weights };
  struct kind {
    operation what;
    linear_shape shape;
    std::size_t bytes;  ///< of a number
    bool in_place;

    friend bool operator==(kind const&, kind const&) = default;
  };
  struct found {
    kind of;
    bool fused;  ///< what won
  };

  explicit linears(context& where) : where_{where}, multiply_{where.kept<products>()} {}

  /// For tests and measurements, which want one of the two.
  void fuse(fusion how) { how_ = how; }
  /// What was chosen where_it_wins, so far.
  std::vector<found> const& choices() const { return choices_; }

  /// before = x w + bias, y = gelu(before).
  template<class T> void gelu(T const* x, T const* weight, T const* bias, linear_shape s, T* before, T* y) {
    product const p{s.rows, s.out, s.in};
    auto const n = row_shape{s.rows, s.out}.size();
    in_the_better_place(
        {operation::gelu, s, sizeof(T), false},
        [&](T* to_before, T* to) {
          multiply_(p, x, weight, 0.f, to_before, epilogue<T>::bias(bias));
          cuda::gelu(where_.stream(), to_before, n, to);
        },
        [&](T* to_before, T* to) {
          return multiply_.attempt(p, x, weight, 0.f, to, epilogue<T>::gelu(bias, to_before));
        },
        std::span(before, n), std::span(y, n));
  }

  /// d_before = dy w^T * gelu'(before). Where d_before is `before`, a fused product's result must go by way of `scratch`: what was
  /// saved is partly lost again, and timing decides.
  template<class T> void gelu_backward(T const* dy, T const* weight, T const* before, linear_shape s, T* scratch,
                                       T* d_before) {
    product const p{.m = s.rows, .n = s.in, .k = s.out, .b_transposed = true};
    auto const n = row_shape{s.rows, s.in}.size();
    bool const in_place = d_before == before;
    in_the_better_place(
        {operation::gelu_backward, s, sizeof(T), in_place},
        [&](T* to) {
          multiply_(p, dy, weight, 0.f, scratch);
          cuda::gelu_backward(where_.stream(), scratch, before, n, to);
        },
        [&](T* to) {
          T* const result = in_place ? scratch : to;
          if (!multiply_.attempt(p, dy, weight, 0.f, result, epilogue<T>::gelu_backward(before))) return false;
          pipewright::cuda::queue_copy(where_.stream(), result, n, to);
          return true;
        },
        std::span(d_before, n));
  }

  /// weight_gradient += x^T dy, bias_gradient += the sum of dy's rows; in fp32, in which cuBLASLt writes the sums too.
  template<class T> void backward_weights(T const* x, T const* dy, linear_shape s, float* weight_gradient,
                                          float* bias_gradient) {
    product const p{.m = s.in, .n = s.out, .k = s.rows, .a_transposed = true};
    auto const width = static_cast<std::size_t>(s.out);
    in_the_better_place(
        {operation::backward_weights, s, sizeof(T), false},
        [&](float* to_weight, float* to_bias) {
          row_shape const rows{s.rows, s.out};
          multiply_(p, x, dy, 1.f, to_weight);
          add_columns(where_.stream(), dy, rows, room(column_sum_grid(rows).scratch(rows)), to_bias);
        },
        [&](float* to_weight, float* to_bias) {
          float* const sums = room(width);
          if (!multiply_.attempt(p, x, dy, 1.f, to_weight, epilogue<float>::column_sums(sums))) return false;
          accumulate(where_.stream(), sums, width, to_bias);
          return true;
        },
        std::span(weight_gradient, static_cast<std::size_t>(s.in) * width), std::span(bias_gradient, width));
  }

 private:
  using product = pipewright::cuda::product;
  using products = pipewright::cuda::products;
  template<class C> using epilogue = pipewright::cuda::epilogue<C>;

  float* room(std::size_t n) { return where_.kept<small_room>().template room<float>(n); }

  /// apart(to...), or fused(to...), which is false where it cannot be.
  template<class... To>
  void in_the_better_place(kind const& of, auto const& apart, auto const& fused, std::span<To>... to) {
    if (!fuses(of, apart, fused, to...) || !fused(to.data()...)) apart(to.data()...);
  }
  template<class... To> bool fuses(kind const& of, auto const& apart, auto const& fused, std::span<To>... to) {
    if (how_ != fusion::where_it_wins) return how_ == fusion::always;
    auto const known = std::ranges::find(choices_, of, &found::of);
    if (known != choices_.end()) return known->fused;
    bool const times = multiply_.chosen() == pipewright::cuda::choice::by_timing && !where_.writes_down();
    choices_.push_back({of, times && wins(apart, fused, buffer<To>(to.size())...)});
    return choices_.back().fused;
  }
  /// Results are added to, or lie where an input does: what is tried goes to memory of its own.
  template<class... To> bool wins(auto const& apart, auto const& fused, buffer<To>... own) {
    auto const queue = [&](std::size_t way) {
      if (way == 0) apart(own.data()...);
      else fused(own.data()...);
    };
    return fused(own.data()...) && pipewright::cuda::fastest(where_, 2, queue) == 1;
  }

  context& where_;
  products& multiply_;
  fusion how_ = fusion::where_it_wins;
  std::vector<found> choices_;
};

}  // namespace pipewright::inline v0::gpt2::cuda
