// SPDX-License-Identifier: Apache-2.0
// What a layer costs, and the cut into stages of about equal cost.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <numeric>
#include <vector>

#include <boost/hana/integral_constant.hpp>
#include <boost/hana/tuple.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/model.hpp>
#include <pipewright/partition/balanced_sizes.hpp>
#include <pipewright/plan/simulate.hpp>

#include "request.hpp"

namespace trainer {

/// What one layer takes for a micro-batch: operations, or seconds.
struct layer_cost {
  double forward = 0, backward_input = 0, backward_weight = 0;
  double all() const { return forward + backward_input + backward_weight; }
};

/// Every layer's cost in floating-point operations: matrix products, attention as the host computes it.
inline std::vector<layer_cost> operations_of(request const& r) {
  double const tokens = r.tokens_of_micro_batch(), width = r.model.width, length = r.sequence_length();
  layer_cost const block{tokens * (24 * width * width + 4 * length * width),
                         tokens * (24 * width * width + 10 * length * width), tokens * 24 * width * width};
  double const head = tokens * 2 * width * r.model.vocabulary, ends = tokens * 4 * width;
  std::vector<layer_cost> costs(static_cast<std::size_t>(gpt2::layer_count(r.model)), block);
  costs.front() = {ends, 0, ends};
  costs.back() = {head, head, head};
  return costs;
}

inline std::size_t parameters_of(request const& r, int layer) {
  auto const c = static_cast<std::size_t>(r.model.width);
  if (layer == 0) return c * static_cast<std::size_t>(r.model.vocabulary + r.model.positions);
  if (layer == r.model.layers + 1) return c * static_cast<std::size_t>(r.model.vocabulary + 2);
  return 12 * c * c + 13 * c;
}

/// Every layer's weight under a cut that has a name: its operations, its parameters, 1, or 1 where it is of a type. Never
/// what was measured: every rank finds the same cut by itself.
inline std::vector<double> weights_of_cut(request const& r) {
  std::vector<double> costs;
  if (r.cut == "cost") {
    for (layer_cost const& each : operations_of(r)) costs.push_back(each.all());
    return costs;
  }
  bool any = false;
  for (int layer = 0; layer < gpt2::layer_count(r.model); ++layer) {
    auto const* const type = layer == 0                    ? "type:GPT2Embedding"
                             : layer == r.model.layers + 1 ? "type:GPT2Head"
                                                           : "type:GPT2Block";
    double const weight = r.cut == "parameters" ? static_cast<double>(parameters_of(r, layer))
                          : r.cut == "uniform"  ? 1.
                          : r.cut == type       ? 1.
                                                : 0.;
    any = any || weight > 0;
    costs.push_back(weight);
  }
  if (!any)
    throw pw::error(
        fmt::format("--balance {} is no cut; give the layers of each stage as 4,3,3,4, or cost, uniform, "
                    "parameters, type:GPT2Block, type:GPT2Embedding or type:GPT2Head",
                    r.cut));
  return costs;
}

/// The cut that was asked for.
inline std::vector<int> cut_of(request const& r, int stages) {
  if (r.balance.empty()) return pw::balanced_sizes(weights_of_cut(r), stages);
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

/// Seconds of processor time of the calling thread.
inline double thread_seconds() {
  std::timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Every layer's cost in milliseconds on this machine, at the pace that was asked for: one micro-batch through the
/// embedding, a block and the head of a model, the fastest of a few. No pipeline runs.
inline std::vector<layer_cost> measured_costs_of(request const& r, auto const& model) {
  using namespace boost::hana::literals;
  pw::stage_context context{.seed = r.seed};
  gpt2::token_batch tokens{{r.sequences, r.sequence_length()}, {}};
  for (int i = 0; i < tokens.batch.tokens(); ++i) tokens.ids.push_back(i * 31 % std::min(256, r.model.vocabulary));

  auto time = [&](double& best, auto&& run) {
    double const begin = thread_seconds();
    run();
    best = std::min(best, 1e3 * r.pace * (thread_seconds() - begin));
  };
  auto measure = [&]<class Stage>(Stage stage, auto&& forward, auto&& backward_input, auto&& backward_weight) {
    layer_cost best{1e9, 1e9, 1e9};
    typename Stage::weights weights;
    stage.initialize(context, weights);
    auto gradients = weights;
    typename Stage::saved saved;
    double const until = thread_seconds() + 0.2;
    for (int tries = 0; tries < 2 || (tries < 10 && thread_seconds() < until); ++tries) {
      time(best.forward, [&] { forward(stage, weights, saved); });
      time(best.backward_input, [&] { backward_input(stage, weights, saved); });
      time(best.backward_weight, [&] { backward_weight(stage, weights, saved, gradients); });
    }
    return best;
  };
  typename decltype(model[1_c].make(0))::input x, y, dy, dx;
  auto const first = measure(
      model[0_c](), [&](auto& s, auto& w, auto& keep) { s.forward(context, w, tokens, x, keep); },
      [](auto&, auto&, auto&) {},
      [&](auto& s, auto& w, auto& keep, auto& g) { s.backward_weight(context, w, keep, x, g); });
  auto const last = measure(
      model[2_c](), [&](auto& s, auto& w, auto& keep) { s.forward(context, w, x, tokens, keep); },
      [&](auto& s, auto& w, auto& keep) { s.backward_input(context, w, keep, dy); },
      [&](auto& s, auto& w, auto& keep, auto& g) { s.backward_weight(context, w, keep, g); });
  auto const block = measure(
      model[1_c].make(0), [&](auto& s, auto& w, auto& keep) { s.forward(context, w, x, y, keep); },
      [&](auto& s, auto& w, auto& keep) { s.backward_input(context, w, keep, dy, dx); },
      [&](auto& s, auto& w, auto& keep, auto& g) { s.backward_weight(context, w, keep, dy, g); });
  std::vector<layer_cost> costs(static_cast<std::size_t>(gpt2::layer_count(r.model)), block);
  costs.front() = first;
  costs.back() = last;
  return costs;
}
/// Those of the host's GPT-2.
inline std::vector<layer_cost> measured_costs(request const& r) { return measured_costs_of(r, gpt2::model(r.model)); }

/// The layers' costs as a simulation wants them, by stage.
inline pw::costs<double> stage_costs(std::vector<layer_cost> const& layers, std::vector<int> const& sizes) {
  pw::costs<double> result;
  auto layer = layers.begin();
  for (int const size : sizes) {
    layer_cost sum;
    for (int i = 0; i < size; ++i, ++layer) {
      sum.forward += layer->forward;
      sum.backward_input += layer->backward_input;
      sum.backward_weight += layer->backward_weight;
    }
    result.stage_forward.push_back(sum.forward);
    result.stage_backward_input.push_back(sum.backward_input);
    result.stage_backward_weight.push_back(sum.backward_weight);
    result.stage_recompute.push_back(sum.forward);
  }
  return result;
}

}  // namespace trainer
