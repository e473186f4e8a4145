// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include <pipewright/gpt2/host/gemm.hpp>
#include <pipewright/gpt2/host/math.hpp>
#include <pipewright/gpt2/host/tokens.hpp>
#include <pipewright/gpt2/shapes.hpp>

namespace pipewright::inline v0::gpt2::host {

/// From row to row of the logits.
[[nodiscard]] constexpr auto logits_stride(int vocabulary) noexcept -> int { return vocabulary; }

/// logits = x table^T: the head's table is out x in (s.out is the vocabulary), as the token embedding is.
inline void logits(float const* x, float const* table, linear_shape s, float* y) {
  gemm(s.rows, s.out, s.in, 1.f, {x, s.in}, transpose({table, s.in}), 0.f, y, s.out);
}

/// dx = d_logits table.
inline void logits_backward_input(float const* d_logits, float const* table, linear_shape s, float* dx) {
  gemm(s.rows, s.in, s.out, 1.f, {d_logits, s.out}, {table, s.in}, 0.f, dx, s.in);
}

/// table_gradient += d_logits^T x.
inline void logits_backward_weights(float const* x, float const* d_logits, linear_shape s, float* table_gradient) {
  gemm(s.out, s.in, s.rows, 1.f, transpose({d_logits, s.out}), {x, s.in}, 1.f, table_gradient, s.in);
}

/// Softmax cross entropy of every row, and its gradient in place of the logits: losses[row] = -log p(target),
/// logits := (p - one_hot(target)) * gradient_scale. A row whose target is negative is left out: its loss and
/// gradient are 0. s is rows x vocabulary.
inline void classify(float* logits, token_ids const& targets, row_shape s, float gradient_scale, float* losses) {
  auto const width = static_cast<std::size_t>(s.width);
  for (int row = 0; row < s.rows; ++row, logits += width) {
    auto const target = targets[static_cast<std::size_t>(row)];
    if (target < 0) {
      losses[row] = 0.f;
      std::fill_n(logits, width, 0.f);
      continue;
    }
    auto const top = largest(width, logits);
    auto const chosen = logits[target] - top;
    for (std::size_t j = 0; j < width; ++j) logits[j] = exp(logits[j] - top);
    auto const total = sum(width, [logits](std::size_t j) { return logits[j]; });
    losses[row] = std::log(total) - chosen;
    auto const share = gradient_scale / total;
    for (std::size_t j = 0; j < width; ++j) logits[j] *= share;
    logits[target] -= gradient_scale;
  }
}

}  // namespace pipewright::inline v0::gpt2::host
