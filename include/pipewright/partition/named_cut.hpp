// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/partition/balanced_sizes.hpp>
#include <pipewright/partition/model_profile.hpp>

namespace pipewright::inline v0 {

/// A layer as the simple cuts see it.
struct layer_summary {
  std::string type{};     ///< what layers of its kind are called
  double parameters = 0;  ///< in any unit
  double time = 0;        ///< of a micro-batch, in any unit
};

/// The layers of a profile: their types are their names, without a number at the end.
inline std::vector<layer_summary> summaries(model_profile const& of) {
  std::vector<layer_summary> all;
  for (auto const& each : of.layers) {
    auto const end = each.name.find_last_not_of("0123456789");
    auto type = end == each.name.npos ? std::string() : each.name.substr(0, end + 1);
    while (type.size() > 1 && type.back() == ' ') type.pop_back();
    all.push_back({type, each.parameters, each.work()});
  }
  return all;
}

/// How many layers each stage gets, for balance(model, sizes), by a cut that has a name in the field (DeepSpeed calls it a
/// partition method, torchgpipe's balance_by_time is "time"):
///   "uniform"          as many each, the first stages one more where they do not divide
///   "parameters"       so that the stage with the most parameters has as few as can be
///   "time"             the same for time
///   "type:GPT2Block"   the same for the number of layers of that type
///   "4,3,3,4"          by hand
/// Throws error where that makes no cut into `stages` stages.
inline std::vector<int> named_cut(std::vector<layer_summary> const& layers, std::string_view how, int stages) {
  int const n = static_cast<int>(layers.size());
  auto const text = std::string(how);
  if (stages < 1 || stages > n)
    throw error(std::to_string(stages) + " stages cannot be made of " + std::to_string(n) +
                " layers; choose fewer ranks or chunks, or a model with more layers");
  if (how == "uniform") return uniform_sizes(n, stages);
  std::vector<double> costs;
  if (how == "parameters" || how == "time") {
    for (auto const& each : layers) costs.push_back(how == "time" ? each.time : each.parameters);
    return balanced_sizes(costs, stages);
  }
  if (how.starts_with("type:")) {
    std::string seen;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      auto const& type = layers[i].type;
      costs.push_back(type == how.substr(5) ? 1 : 0);
      if (std::none_of(layers.begin(), layers.begin() + static_cast<std::ptrdiff_t>(i),
                       [&](auto const& before) { return before.type == type; }))
        seen += (i == 0 ? "" : ", ") + type;
    }
    if (std::count(costs.begin(), costs.end(), 1) < stages)
      throw error("cut " + text + ": the model has " + std::to_string(std::count(costs.begin(), costs.end(), 1)) +
                  " layers of that type for " + std::to_string(stages) + " stages; its types are " + seen);
    return balanced_sizes(costs, stages);
  }
  std::vector<int> sizes;
  for (std::size_t at = 0; at <= how.size();) {
    auto const end = std::min(how.find(',', at), how.size());
    auto const number = text.substr(at, end - at);
    if (number.empty() || number.size() > 6 || number.find_first_not_of("0123456789") != number.npos)
      throw error("cut " + text +
                  ": give uniform, parameters, time, type:NAME, or the number of layers of each stage as 4,3,3,4");
    sizes.push_back(std::stoi(number));
    at = end + 1;
  }
  long long sum = 0;
  for (int const each : sizes) sum += each;
  if (static_cast<int>(sizes.size()) != stages || sum != n || *std::min_element(sizes.begin(), sizes.end()) < 1)
    throw error("cut " + text + " must give each of " + std::to_string(stages) +
                " stages at least one of the model's " + std::to_string(n) + " layers, and all of them");
  return sizes;
}

}  // namespace pipewright::inline v0
