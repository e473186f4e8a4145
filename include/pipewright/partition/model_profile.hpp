// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/plan/simulate.hpp>

namespace pipewright::inline v0 {

/// What was measured of one layer: seconds for one micro-batch, of an update, and bytes.
struct layer_profile {
  std::string name{};
  double forward = 0;
  double backward_input = 0;
  double backward_weight = 0;
  double recompute = 0;      ///< a second forward
  double update = 0;         ///< one update of its weights, whatever the micro-batch
  double saved = 0;          ///< bytes that it keeps of a micro-batch from forward to backward, apart from its input
  double output = 0;         ///< bytes of what it gives to the next layer, for a micro-batch; its gradient is as large
  double parameters = 0;     ///< bytes of one version of its weights
  double gradients = 0;      ///< bytes of their gradients
  double optimizer = 0;      ///< bytes of the optimizer's state
  double workspace = 0;      ///< the most bytes that an action of it has beside what is held before or after it
  bool keeps_input = false;  ///< from forward to backward, see keeps_input(); the first of a stage has slots for it

  double work() const { return forward + backward_input + backward_weight; }
};

/// A model as a planner sees it: a chain of layers.
struct model_profile {
  std::vector<layer_profile> layers;
  int samples = 1;    ///< of the micro-batch that was measured
  double input = 0;   ///< bytes of a micro-batch's input
  double target = 0;  ///< bytes of its target
  /// Whether what layers save is gone once backward is done, as a graph is; else its memory waits for the next micro-batch.
  bool frees_saved = false;

  int count() const { return static_cast<int>(layers.size()); }
  /// What a layer needs beside where it is not the first of its stage: the gradients on their way to it and from it, too, which
  /// else have slots.
  double inner_workspace(std::size_t layer) const { return layers[layer].workspace + 2 * layers[layer - 1].output; }
};

/// Throws error, with the layer and the field, unless the profile is of at least one layer, all its numbers are from 0 to 1e30,
/// and some layer takes time.
inline void check(model_profile const& p) {
  if (p.layers.empty()) throw error("a profile has at least one layer; this one has none");
  if (p.samples < 1) throw error("a profile's micro-batch has at least one sample, not " + std::to_string(p.samples));
  auto const is_sound = [](double x) { return x >= 0 && x <= 1e30; };  // sums of them are numbers too
  if (!is_sound(p.input) || !is_sound(p.target)) throw error("a profile's input and target are bytes, from 0 to 1e30");
  double work = 0;
  for (std::size_t i = 0; i < p.layers.size(); ++i) {
    auto const& l = p.layers[i];
    work += l.work();
    struct field {
      char const* name;
      double value;
    };
    for (auto const& [name, value] : {field{"forward", l.forward},
                                      {"backward_input", l.backward_input},
                                      {"backward_weight", l.backward_weight},
                                      {"recompute", l.recompute},
                                      {"update", l.update},
                                      {"saved", l.saved},
                                      {"output", l.output},
                                      {"parameters", l.parameters},
                                      {"gradients", l.gradients},
                                      {"optimizer", l.optimizer},
                                      {"workspace", l.workspace}})
      if (!is_sound(value))
        throw error("layer " + std::to_string(i) + (l.name.empty() ? "" : " (" + l.name + ")") +
                    " of the profile: " + name + " is a number from 0 to 1e30, not " + std::to_string(value));
  }
  if (!(work > 0)) throw error("a profile's layers take some time; these take none");
}

/// The profile for micro-batches of another number of samples: times, saved values and boundaries grow with it, weights do not.
/// An estimate: small micro-batches are less efficient than this says.
inline model_profile scaled(model_profile p, int samples) {
  double const by = static_cast<double>(samples) / p.samples;
  p.samples = samples;
  for (double* each : {&p.input, &p.target}) *each *= by;
  for (auto& l : p.layers)
    for (double* each :
         {&l.forward, &l.backward_input, &l.backward_weight, &l.recompute, &l.saved, &l.output, &l.workspace})
      *each *= by;
  return p;
}

/// The sums of a stage's layers; `output` is that of its last one, `workspace` the largest.
struct stage_profile : layer_profile {
  double between = 0;  ///< bytes that it keeps of a micro-batch between its layers, where the next one keeps its input
};

/// The stages that a cut makes, by the numbers of their layers. Throws error where these are not the profile's.
inline std::vector<stage_profile> stages_of(model_profile const& p, std::vector<int> const& sizes) {
  std::vector<stage_profile> stages;
  std::size_t layer = 0;
  for (int const size : sizes) {
    stage_profile sum;
    for (int i = 0; i < size; ++i) {
      layer_profile const& l = p.layers.at(layer++);
      sum.forward += l.forward;
      sum.backward_input += l.backward_input;
      sum.backward_weight += l.backward_weight;
      sum.recompute += l.recompute;
      sum.update += l.update;
      sum.saved += l.saved;
      sum.between += i > 0 && l.keeps_input ? sum.output : 0;
      sum.output = l.output;
      sum.parameters += l.parameters;
      sum.gradients += l.gradients;
      sum.optimizer += l.optimizer;
      sum.workspace = std::max(sum.workspace, i == 0 ? l.workspace : p.inner_workspace(layer - 1));
    }
    stages.push_back(std::move(sum));
  }
  if (layer != p.layers.size())
    throw error("a cut has " + std::to_string(layer) + " layers, but the profile " + std::to_string(p.layers.size()));
  return stages;
}

}  // namespace pipewright::inline v0
