// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>

#include <pipewright/gpt2/constants.hpp>
#include <pipewright/gpt2/host/elementwise.hpp>
#include <pipewright/gpt2/host/math.hpp>
#include <pipewright/gpt2/shapes.hpp>

namespace pipewright::inline v0::gpt2::host {

/// y = (x - mean) / sqrt(variance + 1e-5) * weight + bias, row by row. Keeps each row's mean and reciprocal
/// standard deviation for the backward.
inline void layer_norm(float const* x, float const* weight, float const* bias, row_shape s, float* y, float* mean,
                       float* reciprocal) {
  auto const width = static_cast<std::size_t>(s.width);
  auto const share = 1.f / static_cast<float>(s.width);
  for (int row = 0; row < s.rows; ++row, x += width, y += width) {
    auto const m = sum(width, [x](std::size_t j) { return x[j]; }) * share;
    auto const variance = sum(width, [x, m](std::size_t j) { return (x[j] - m) * (x[j] - m); }) * share;
    auto const r = 1.f / std::sqrt(variance + layer_norm_epsilon);
    for (std::size_t j = 0; j < width; ++j) y[j] = (x[j] - m) * r * weight[j] + bias[j];
    mean[row] = m;
    reciprocal[row] = r;
  }
}

/// total = base + dropout(branch), then y = layer_norm(total): a residual addition fused with the norm after it.
inline void add_layer_norm(float const* base, float const* branch, dropout const& mask, float const* weight,
                           float const* bias, row_shape s, float* total, float* y, float* mean, float* reciprocal) {
  add_dropout(base, branch, s.size(), mask, total);
  layer_norm(total, weight, bias, s, y, mean, reciprocal);
}

/// Writes (does not add to) dx = residual_gradient + the norm's input gradient, and the micro-batch's weight and
/// bias gradients. `residual_gradient` may be null; dx may be dy or x, so that either can give its memory.
inline void layer_norm_backward(float const* x, float const* mean, float const* reciprocal, float const* weight,
                                float const* dy, float const* residual_gradient, row_shape s, float* dx,
                                float* weight_gradient, float* bias_gradient) {
  auto const width = static_cast<std::size_t>(s.width);
  auto const share = 1.f / static_cast<float>(s.width);
  std::fill_n(weight_gradient, width, 0.f);
  std::fill_n(bias_gradient, width, 0.f);
  for (int row = 0; row < s.rows; ++row, x += width, dy += width, dx += width) {
    auto const m = mean[row];
    auto const r = reciprocal[row];
    auto const slope = sum(width, [=](std::size_t j) { return dy[j] * weight[j]; }) * share;
    auto const along = sum(width, [=](std::size_t j) { return dy[j] * weight[j] * ((x[j] - m) * r); }) * share;
    for (std::size_t j = 0; j < width; ++j) {
      auto const normed = (x[j] - m) * r;
      auto const g = dy[j];
      weight_gradient[j] += g * normed;
      bias_gradient[j] += g;
      dx[j] = (g * weight[j] - slope - normed * along) * r;
    }
    if (residual_gradient != nullptr) {
      accumulate(residual_gradient, width, dx);
      residual_gradient += width;
    }
  }
}

}  // namespace pipewright::inline v0::gpt2::host
