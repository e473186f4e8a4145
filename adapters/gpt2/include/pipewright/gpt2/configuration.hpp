// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include <pipewright/error.hpp>

namespace pipewright::inline v0::gpt2 {

/// Size of a GPT-2 (Radford et al. 2019) and its dropout probabilities. The feed-forward layer is 4 * width.
struct configuration {
  int vocabulary = 256;
  int positions = 64;  ///< longest sequence
  int width = 64;
  int heads = 4;
  int layers = 4;  ///< transformer blocks
  float embedding_dropout = 0.f;
  float attention_dropout = 0.f;
  float residual_dropout = 0.f;

  friend bool operator==(configuration const&, configuration const&) = default;
};

/// Layers of the model as a pipeline cuts it: the embedding, the blocks, the head.
[[nodiscard]] constexpr auto layer_count(configuration const& c) noexcept -> int { return c.layers + 2; }

/// Throws error where the numbers make no GPT-2.
inline void check(configuration const& c) {
  auto const positive = [](char const* name, int value) {
    if (value < 1)
      throw error(std::string("GPT-2: ") + name + " is " + std::to_string(value) + "; it must be at least 1");
  };
  positive("vocabulary", c.vocabulary);
  positive("positions", c.positions);
  positive("width", c.width);
  positive("heads", c.heads);
  positive("layers", c.layers);
  if (c.width % c.heads != 0) {
    throw error("GPT-2: width " + std::to_string(c.width) + " is not a multiple of " + std::to_string(c.heads) +
                " heads; choose a width that the heads divide");
  }
  for (auto const p : {c.embedding_dropout, c.attention_dropout, c.residual_dropout}) {
    if (!(p >= 0.f && p < 1.f)) {
      throw error("GPT-2: dropout probability " + std::to_string(p) + " is outside [0, 1)");
    }
  }
}

}  // namespace pipewright::inline v0::gpt2
