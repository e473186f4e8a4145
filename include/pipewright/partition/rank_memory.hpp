// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include <pipewright/partition/model_profile.hpp>
#include <pipewright/plan/plan_view.hpp>

namespace pipewright::inline v0 {

/// The most bytes that a rank holds while it trains, by what they are for. What runtime and libraries take is not in it.
struct rank_memory {
  double weights = 0;      ///< all versions
  double gradients = 0;    ///< all accumulators
  double optimizer = 0;    ///< states
  double activations = 0;  ///< what stages keep of the micro-batches in flight
  double boundaries = 0;   ///< inputs, outputs and their gradients, on the way and in use

  double total() const { return weights + gradients + optimizer + activations + boundaries; }
  rank_memory& operator+=(rank_memory const& b) {
    weights += b.weights;
    gradients += b.gradients;
    optimizer += b.optimizer;
    activations += b.activations;
    boundaries += b.boundaries;
    return *this;
  }
};

namespace detail {

/// What a stage holds, from the sums of its layers and the bytes of its input: as the engine's cell makes its rings.
inline rank_memory memory_of_stage(plan_view const& p, model_profile const& of, int s, layer_profile const& stage,
                                   double input) {
  slot_depths const& depth = p.slots[s];
  int const rank = p.rank_of_stage[s], last = p.stages() - 1;
  bool const trains = p.backward != backward_form::none;
  auto const at_least_one = [](int slots) { return std::max(slots, 1); };
  rank_memory m;
  m.weights = p.weight_buffers[rank] * stage.parameters;
  m.optimizer = trains ? stage.optimizer : 0;
  m.gradients = trains ? depth.gradients * stage.gradients : 0;
  if (trains && p.wants.recompute != recompute_mode::never)
    m.activations =
        stage.saved * ((p.wants.recompute == recompute_mode::except_last ? at_least_one(depth.last_saved) : 0) +
                       depth.recomputed + (p.backward == backward_form::split ? 1 : 0));
  else m.activations = stage.saved * at_least_one(depth.saved);
  m.boundaries = at_least_one(depth.input) * (input + (s == last ? of.target : 0));
  if (s < last && p.rank_of_stage[s + 1] != rank) m.boundaries += at_least_one(depth.output) * stage.output;
  if (trains && s < last) m.boundaries += at_least_one(depth.output_gradient) * stage.output;
  if (trains && s > 0 && p.rank_of_stage[s - 1] != rank) m.boundaries += at_least_one(depth.input_gradient) * input;
  return m;
}

}  // namespace detail

/// The bytes of every rank, for a plan and a cut into its stages: from the plan's slots, so exact where a profile's bytes are.
inline std::vector<rank_memory> memory_of_ranks(plan_view const& p, model_profile const& of,
                                                std::vector<int> const& sizes) {
  auto const stages = stages_of(of, sizes);
  std::vector<rank_memory> ranks(static_cast<std::size_t>(p.facts.ranks));
  for (int s = 0; s < p.stages(); ++s) {
    auto const at = static_cast<std::size_t>(s);
    ranks[static_cast<std::size_t>(p.rank_of_stage[s])] +=
        detail::memory_of_stage(p, of, s, stages[at], s == 0 ? of.input : stages[at - 1].output);
  }
  return ranks;
}

}  // namespace pipewright::inline v0
