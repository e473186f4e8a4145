// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where to cut a list of layers into stages: what DeepSpeed calls a partition method.

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <torch/nn/module.h>

#include <pipewright/error.hpp>
#include <pipewright/partition/balanced_sizes.hpp>

namespace pipewright::inline v0::libtorch {

/// A layer as a cut sees it.
struct layer_summary {
  std::string type;  ///< the module's class, without namespaces and without the ending Impl of torch's classes
  std::int64_t parameters = 0;
};

/// Of a module.
inline layer_summary summary_of(torch::nn::Module const& module) {
  layer_summary found{.type = module.name()};
  if (auto const at = found.type.rfind("::"); at != found.type.npos) found.type.erase(0, at + 2);
  if (found.type.ends_with("Impl")) found.type.resize(found.type.size() - 4);
  for (at::Tensor const& each : module.parameters()) found.parameters += each.numel();
  return found;
}

/// How many layers each stage gets, for balance(model, sizes):
///   "uniform"          as many each, the first stages one more where they do not divide
///   "parameters"       so that the stage with the most parameters has as few as can be
///   "type:GPT2Block"   the same for the number of layers of that type
///   "4,3,3,4"          by hand
/// Throws error where that makes no cut into `stages` stages.
inline std::vector<int> cut(std::vector<layer_summary> const& layers, std::string_view how, int stages) {
  int const n = static_cast<int>(layers.size());
  auto const text = std::string(how);
  if (stages < 1 || stages > n)
    throw error(std::to_string(stages) + " stages cannot be made of " + std::to_string(n) +
                " layers; choose fewer ranks or chunks, or a model with more layers");
  if (how == "uniform") return uniform_sizes(n, stages);
  std::vector<double> costs;
  if (how == "parameters") {
    for (auto const& each : layers) costs.push_back(static_cast<double>(each.parameters));
    return balanced_sizes(costs, stages);
  }
  if (how.starts_with("type:")) {
    std::string seen;
    for (auto const& each : layers) {
      costs.push_back(each.type == how.substr(5) ? 1 : 0);
      if (seen.find(each.type) == seen.npos) seen += (seen.empty() ? "" : ", ") + each.type;
    }
    if (std::ranges::count(costs, 1) < stages)
      throw error("cut " + text + ": the model has " + std::to_string(std::ranges::count(costs, 1)) +
                  " layers of that type for " + std::to_string(stages) + " stages; its types are " + seen);
    return balanced_sizes(costs, stages);
  }
  std::vector<int> sizes;
  for (std::size_t at = 0; at <= how.size();) {
    auto const end = std::min(how.find(',', at), how.size());
    auto const number = text.substr(at, end - at);
    if (number.empty() || number.size() > 6 ||
        !std::ranges::all_of(number, [](unsigned char c) { return std::isdigit(c); }))
      throw error("cut " + text +
                  ": give uniform, parameters, type:NAME, or the number of layers of each stage as 4,3,3,4");
    sizes.push_back(std::stoi(number));
    at = end + 1;
  }
  int sum = 0;
  for (int const each : sizes) sum += each;
  if (static_cast<int>(sizes.size()) != stages || sum != n || std::ranges::min(sizes) < 1)
    throw error("cut " + text + " must give each of " + std::to_string(stages) +
                " stages at least one of the model's " + std::to_string(n) + " layers, and all of them");
  return sizes;
}

}  // namespace pipewright::inline v0::libtorch
