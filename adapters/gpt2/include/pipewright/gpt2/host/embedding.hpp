// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>

#include <pipewright/gpt2/dropout.hpp>
#include <pipewright/gpt2/host/tokens.hpp>
#include <pipewright/gpt2/shapes.hpp>

namespace pipewright::inline v0::gpt2::host {

/// out = dropout(token_table[token] + position_table[position]); out is tokens x width.
inline void embed(token_ids const& tokens, float const* token_table, float const* position_table, batch_shape batch,
                  int width, dropout const& mask, float* out) {
  auto const columns = static_cast<std::size_t>(width);
  for (int row = 0; row < batch.tokens(); ++row) {
    auto const* const token = token_table + static_cast<std::size_t>(tokens[static_cast<std::size_t>(row)]) * columns;
    auto const* const position = position_table + static_cast<std::size_t>(row % batch.length) * columns;
    auto* const to = out + static_cast<std::size_t>(row) * columns;
    for (std::size_t j = 0; j < columns; ++j) to[j] = token[j] + position[j];
    if (mask) mask.each(static_cast<std::size_t>(row) * columns, columns, [to](std::size_t j, float f) { to[j] *= f; });
  }
}

/// Adds the gradient of the output into both tables' gradients, in token order, so that the sums are the same
/// bits every time.
inline void embed_backward_weights(token_ids const& tokens, float const* gradient, batch_shape batch, int width,
                                   dropout const& mask, float* token_gradient, float* position_gradient) {
  auto const columns = static_cast<std::size_t>(width);
  for (int row = 0; row < batch.tokens(); ++row) {
    auto const* const from = gradient + static_cast<std::size_t>(row) * columns;
    auto* const token = token_gradient + static_cast<std::size_t>(tokens[static_cast<std::size_t>(row)]) * columns;
    auto* const position = position_gradient + static_cast<std::size_t>(row % batch.length) * columns;
    auto const add = [=](std::size_t j, float factor) {
      token[j] += factor * from[j];
      position[j] += factor * from[j];
    };
    if (mask) {
      mask.each(static_cast<std::size_t>(row) * columns, columns, add);
    } else {
      for (std::size_t j = 0; j < columns; ++j) add(j, 1.f);
    }
  }
}

}  // namespace pipewright::inline v0::gpt2::host
