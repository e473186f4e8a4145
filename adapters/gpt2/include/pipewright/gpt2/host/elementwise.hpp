// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>

#include <pipewright/gpt2/dropout.hpp>

namespace pipewright::inline v0::gpt2::host {

/// to[i] += from[i].
inline void accumulate(float const* from, std::size_t count, float* to) {
  for (std::size_t i = 0; i < count; ++i) to[i] += from[i];
}

/// to[i] = base[i] + dropout(branch[i]); `to` may be either input.
inline void add_dropout(float const* base, float const* branch, std::size_t count, dropout const& mask, float* to) {
  if (mask) {
    mask.each(0, count, [&](std::size_t i, float factor) { to[i] = base[i] + factor * branch[i]; });
  } else {
    for (std::size_t i = 0; i < count; ++i) to[i] = base[i] + branch[i];
  }
}

/// to[i] = gradient[i] * factor of element i: the backward of dropout; `to` may be `gradient`.
inline void dropout_backward(float const* gradient, std::size_t count, dropout const& mask, float* to) {
  mask.each(0, count, [&](std::size_t i, float factor) { to[i] = factor * gradient[i]; });
}

}  // namespace pipewright::inline v0::gpt2::host
