// SPDX-License-Identifier: Apache-2.0
// What a layer costs, and the cut into stages of about equal cost.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/model.hpp>
#include <pipewright/partition/model_profile.hpp>
#include <pipewright/partition/named_cut.hpp>

#include "layer_profile.hpp"
#include "request.hpp"

namespace trainer {

/// What layers take for a micro-batch: operations, or milliseconds.
using layer_costs = std::vector<pw::layer_profile>;

/// Every layer's cost in floating-point operations: matrix products, attention as the host computes it.
inline layer_costs operations_of(request const& r) {
  double const tokens = r.tokens_of_micro_batch(), width = r.model.width, length = r.sequence_length();
  auto const layer = [](double forward, double backward_input, double backward_weight) {
    return pw::layer_profile{
        .forward = forward, .backward_input = backward_input, .backward_weight = backward_weight, .recompute = forward};
  };
  layer_costs costs(static_cast<std::size_t>(gpt2::layer_count(r.model)),
                    layer(tokens * (24 * width * width + 4 * length * width),
                          tokens * (24 * width * width + 10 * length * width), tokens * 24 * width * width));
  double const head = tokens * 2 * width * r.model.vocabulary, ends = tokens * 4 * width;
  costs.front() = layer(ends, 0, ends);
  costs.back() = layer(head, head, head);
  return costs;
}

inline std::size_t parameters_of(request const& r, int layer) {
  auto const c = static_cast<std::size_t>(r.model.width);
  if (layer == 0) return c * static_cast<std::size_t>(r.model.vocabulary + r.model.positions);
  if (layer == r.model.layers + 1) return c * static_cast<std::size_t>(r.model.vocabulary + 2);
  return 12 * c * c + 13 * c;
}

/// The layers as a cut that has a name sees them: a layer's time is its operations, never what was measured, since every rank finds
/// the same cut by itself.
inline std::vector<pw::layer_summary> summaries_of(request const& r) {
  std::vector<pw::layer_summary> layers;
  auto const costs = operations_of(r);
  for (int layer = 0; layer < gpt2::layer_count(r.model); ++layer)
    layers.push_back({layer == 0                    ? "GPT2Embedding"
                      : layer == r.model.layers + 1 ? "GPT2Head"
                                                    : "GPT2Block",
                      static_cast<double>(parameters_of(r, layer)), costs[static_cast<std::size_t>(layer)].work()});
  return layers;
}

/// The cut that was asked for.
inline std::vector<int> cut_of(request const& r, int stages) {
  if (r.balance.empty()) {
    bool is_known = r.cut == "cost" || r.cut == "uniform" || r.cut == "parameters";
    auto const layers = summaries_of(r);
    for (auto const& each : layers) is_known = is_known || r.cut == "type:" + each.type;
    if (!is_known)
      throw pw::error(
          fmt::format("--balance {} is no cut; give the layers of each stage as 4,3,3,4, or cost, uniform, "
                      "parameters, type:GPT2Block, type:GPT2Embedding or type:GPT2Head",
                      r.cut));
    return pw::named_cut(layers, r.cut == "cost" ? "time" : r.cut, stages);
  }
  int const layers = gpt2::layer_count(r.model), given = std::accumulate(r.balance.begin(), r.balance.end(), 0);
  if (static_cast<int>(r.balance.size()) != stages)
    throw pw::error(fmt::format("--balance {} names {} stages, but this schedule has {} (ranks x chunks)",
                                fmt::join(r.balance, ","), r.balance.size(), stages));
  if (given != layers || *std::min_element(r.balance.begin(), r.balance.end()) < 1)
    throw pw::error(
        fmt::format("--balance {} must give every stage at least one of the model's {} layers (embedding, {} blocks, "
                    "head), and all of them",
                    fmt::join(r.balance, ","), layers, r.model.layers));
  return r.balance;
}

inline gpt2::configuration with_one_block(gpt2::configuration sizes) {
  sizes.layers = 1;
  return sizes;
}

/// Every layer's cost in milliseconds on this machine, at the pace that was asked for: medians of a few micro-batches through
/// the embedding, a block and the head. `one_block`: the layers of the same model with one block.
inline layer_costs measured_costs_of(request const& r, auto one_block) {
  auto const found =
      profile_of(std::move(one_block), {with_one_block(r.model),
                                        r.sequences,
                                        r.sequence_length(),
                                        false,
                                        {.warm_up = 1, .micro_batches = 5, .seed = r.seed, .counts_saved = false}});
  layer_costs costs(static_cast<std::size_t>(gpt2::layer_count(r.model)), found.profile.layers[1]);
  costs.front() = found.profile.layers[0];
  costs.back() = found.profile.layers[2];
  for (auto& each : costs)
    for (double* const time : {&each.forward, &each.backward_input, &each.backward_weight, &each.recompute})
      *time *= 1e3 * r.pace;
  for (auto& each : costs) each.update = 0;  // an optimizer's own would have to be measured
  return costs;
}
/// Those of the host's GPT-2.
inline layer_costs measured_costs(request const& r) {
  return measured_costs_of(r, gpt2::model(with_one_block(r.model)));
}

}  // namespace trainer
