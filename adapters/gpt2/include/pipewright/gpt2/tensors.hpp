// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <string>
#include <vector>

#include <pipewright/gpt2/configuration.hpp>
#include <pipewright/gpt2/parameters.hpp>

namespace pipewright::inline v0::gpt2 {

// The tensors of each layer, in order: names, shapes and first values. The one place that states them; the stages, the
// loading and the saving ask here.

/// The embedding's.
[[nodiscard]] inline auto embedding_tensors(configuration const& c) -> std::vector<parameter> {
  return {{.name = "wte.weight", .rows = c.vocabulary, .columns = c.width, .deviation = 0.02f},
          {.name = "wpe.weight", .rows = c.positions, .columns = c.width, .deviation = 0.02f}};
}

/// Those of the block with this number, from 0. Matrices are in x out, as Hugging Face's Conv1D has them.
[[nodiscard]] inline auto block_tensors(configuration const& c, int index) -> std::vector<parameter> {
  auto const width = c.width;
  auto const residual = 0.02f / std::sqrt(2.f * static_cast<float>(c.layers));
  auto const h = "h." + std::to_string(index) + ".";
  return {{.name = h + "ln_1.weight", .columns = width, .mean = 1.f},
          {.name = h + "ln_1.bias", .columns = width},
          {.name = h + "attn.c_attn.weight", .rows = width, .columns = 3 * width, .deviation = 0.02f},
          {.name = h + "attn.c_attn.bias", .columns = 3 * width},
          {.name = h + "attn.c_proj.weight", .rows = width, .columns = width, .deviation = residual},
          {.name = h + "attn.c_proj.bias", .columns = width},
          {.name = h + "ln_2.weight", .columns = width, .mean = 1.f},
          {.name = h + "ln_2.bias", .columns = width},
          {.name = h + "mlp.c_fc.weight", .rows = width, .columns = 4 * width, .deviation = 0.02f},
          {.name = h + "mlp.c_fc.bias", .columns = 4 * width},
          {.name = h + "mlp.c_proj.weight", .rows = 4 * width, .columns = width, .deviation = residual},
          {.name = h + "mlp.c_proj.bias", .columns = width}};
}

/// The head's. Its projection is out x in, as the token embedding is, and starts with the token embedding's values.
[[nodiscard]] inline auto head_tensors(configuration const& c) -> std::vector<parameter> {
  return {{.name = "ln_f.weight", .columns = c.width, .mean = 1.f},
          {.name = "ln_f.bias", .columns = c.width},
          {.name = "lm_head.weight",
           .rows = c.vocabulary,
           .columns = c.width,
           .deviation = 0.02f,
           .drawn_as = "wte.weight"}};
}

/// The whole model's, by layer.
[[nodiscard]] inline auto tensors_by_layer(configuration const& c) -> std::vector<std::vector<parameter>> {
  std::vector<std::vector<parameter>> all{embedding_tensors(c)};
  for (int i = 0; i < c.layers; ++i) all.push_back(block_tensors(c, i));
  all.push_back(head_tensors(c));
  return all;
}

/// The whole model's, layer by layer.
[[nodiscard]] inline auto all_tensors(configuration const& c) -> std::vector<parameter> {
  std::vector<parameter> all;
  for (auto const& layer : tensors_by_layer(c)) all.insert(all.end(), layer.begin(), layer.end());
  return all;
}

}  // namespace pipewright::inline v0::gpt2
