// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>

#include <pipewright/gpt2/host/gemm.hpp>
#include <pipewright/gpt2/host/math.hpp>
#include <pipewright/gpt2/shapes.hpp>

namespace pipewright::inline v0::gpt2::host {

/// y = x w + bias.
inline void linear(float const* x, float const* weight, float const* bias, linear_shape s, float* y) {
  for (int row = 0; row < s.rows; ++row) std::copy_n(bias, s.out, y + static_cast<std::size_t>(row) * s.out);
  gemm(s.rows, s.out, s.in, 1.f, {x, s.in}, {weight, s.out}, 1.f, y, s.out);
}

/// before = x w + bias, y = gelu(before); the backward needs both.
inline void linear_gelu(float const* x, float const* weight, float const* bias, linear_shape s, float* before,
                        float* y) {
  linear(x, weight, bias, s, before);
  auto const count = row_shape{s.rows, s.out}.size();
  for (std::size_t i = 0; i < count; ++i) y[i] = gelu::value(before[i]);
}

/// dx = dy w^T: the input-gradient half.
inline void linear_backward_input(float const* dy, float const* weight, linear_shape s, float* dx) {
  gemm(s.rows, s.in, s.out, 1.f, {dy, s.out}, transpose({weight, s.out}), 0.f, dx, s.in);
}

/// The same through the gelu in front of this linear: d_before = dy w^T * gelu'(before). `scratch` holds
/// rows * in values; d_before may be `before`.
inline void linear_gelu_backward_input(float const* dy, float const* weight, float const* before, linear_shape s,
                                       float* scratch, float* d_before) {
  linear_backward_input(dy, weight, s, scratch);
  auto const count = row_shape{s.rows, s.in}.size();
  for (std::size_t i = 0; i < count; ++i) d_before[i] = scratch[i] * gelu::slope(before[i]);
}

/// weight_gradient += x^T dy and bias_gradient += the sum of dy's rows, in row order: the weight-gradient half.
inline void linear_backward_weights(float const* x, float const* dy, linear_shape s, float* weight_gradient,
                                    float* bias_gradient) {
  gemm(s.in, s.out, s.rows, 1.f, transpose({x, s.in}), {dy, s.out}, 1.f, weight_gradient, s.out);
  for (int row = 0; row < s.rows; ++row, dy += s.out) {
    for (int j = 0; j < s.out; ++j) bias_gradient[j] += dy[j];
  }
}

}  // namespace pipewright::inline v0::gpt2::host
