// SPDX-License-Identifier: Apache-2.0
#pragma once
// Layers of torch's modules as named_cut() sees them.

#include <torch/nn/module.h>

#include <pipewright/partition/named_cut.hpp>

namespace pipewright::inline v0::libtorch {

/// Of a module: its class, without namespaces and without the ending Impl of torch's classes, and how many numbers it trains.
inline layer_summary summary_of(torch::nn::Module const& module) {
  layer_summary found{.type = module.name()};
  if (auto const at = found.type.rfind("::"); at != found.type.npos) found.type.erase(0, at + 2);
  if (found.type.ends_with("Impl")) found.type.resize(found.type.size() - 4);
  for (at::Tensor const& each : module.parameters()) found.parameters += static_cast<double>(each.numel());
  return found;
}

}  // namespace pipewright::inline v0::libtorch
