// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/partition/cost_chain.hpp>

namespace pipewright::inline v0 {

/// How many layers each stage gets, for balance(model, sizes), so that the dearest stage is as cheap as can be; among those
/// cuts, the most even one. `costs` are the layers', 0 or more, in any unit. Throws error where there are fewer layers than stages.
constexpr std::vector<int> balanced_sizes(std::vector<double> const& costs, int stages) {
  if (stages < 1 || static_cast<std::size_t>(stages) > costs.size())
    throw error(std::to_string(stages) + " stages cannot be made of " + std::to_string(costs.size()) +
                " layers; choose fewer ranks or chunks, or a model with more layers");
  return cut_chain<double>({.work = costs}, stages)->sizes;
}

/// Stages of as many layers as the others; where that does not come out even, the first stages have one more (DeepSpeed's
/// `uniform`). Throws as balanced_sizes does.
constexpr std::vector<int> uniform_sizes(int layers, int stages) {
  if (stages < 1 || stages > layers)
    throw error(std::to_string(stages) + " stages cannot be made of " + std::to_string(layers) +
                " layers; choose fewer ranks or chunks, or a model with more layers");
  std::vector<int> sizes(static_cast<std::size_t>(stages), layers / stages);
  for (int s = 0; s < layers % stages; ++s) ++sizes[static_cast<std::size_t>(s)];
  return sizes;
}

}  // namespace pipewright::inline v0
