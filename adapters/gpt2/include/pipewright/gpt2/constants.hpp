// SPDX-License-Identifier: Apache-2.0
#pragma once
// GPT-2's own numbers, for every backend.

namespace pipewright::inline v0::gpt2 {

/// Added to a row's variance before its root is taken.
inline constexpr float layer_norm_epsilon = 1e-5f;

/// gelu(x) = x * sigmoid(2u), u = sqrt(2 / pi) * (x + gelu_cubic * x^3): the tanh form.
inline constexpr float gelu_twice_root = 1.5957691216f;  // 2 * sqrt(2 / pi)
inline constexpr float gelu_cubic = 0.044715f;

}  // namespace pipewright::inline v0::gpt2
