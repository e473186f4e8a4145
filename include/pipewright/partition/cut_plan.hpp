// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <pipewright/partition/cluster.hpp>
#include <pipewright/partition/cut_by_rank.hpp>
#include <pipewright/partition/model_profile.hpp>
#include <pipewright/partition/rank_memory.hpp>
#include <pipewright/plan/plan_view.hpp>

namespace pipewright::inline v0 {

namespace detail {

/// What any layers [first, last) make of a stage, from sums over the layers before and the largest of runs of 2^k layers.
class layer_sums {
 public:
  explicit layer_sums(model_profile const& of) : of_{of}, before_(of.layers.size() + 1), workspace_(1) {
    for (std::size_t i = 0; i < of.layers.size(); ++i) {
      workspace_[0].push_back(i == 0 ? 0 : of.inner_workspace(i));
      stage_profile& sum = before_[i + 1] = before_[i];
      layer_profile const& l = of.layers[i];
      sum.saved += l.saved;
      sum.between += kept(static_cast<int>(i));
      sum.parameters += l.parameters;
      sum.gradients += l.gradients;
      sum.optimizer += l.optimizer;
    }
    for (std::size_t run = 1; 2 * run <= of.layers.size(); run *= 2) {
      auto const& halves = workspace_.back();
      std::vector<double> most;
      for (std::size_t i = 0; i + run < halves.size(); ++i) most.push_back(std::max(halves[i], halves[i + run]));
      workspace_.push_back(std::move(most));
    }
  }
  /// The bytes of a stage.
  stage_profile stage(int first, int last) const {
    stage_profile const &a = before_[static_cast<std::size_t>(first)], &b = before_[static_cast<std::size_t>(last)];
    return {{.saved = b.saved - a.saved,
             .output = last > first ? of_.layers[static_cast<std::size_t>(last) - 1].output : 0,
             .parameters = b.parameters - a.parameters,
             .gradients = b.gradients - a.gradients,
             .optimizer = b.optimizer - a.optimizer,
             .workspace = workspace(static_cast<std::size_t>(first), static_cast<std::size_t>(last))},
            last > first ? b.between - a.between - kept(first) : 0};  // the stage's input has slots of its own
  }
  double input(int first) const {
    return first == 0 ? of_.input : of_.layers[static_cast<std::size_t>(first) - 1].output;
  }

 private:
  double kept(int layer) const {
    return layer > 0 && of_.layers[static_cast<std::size_t>(layer)].keeps_input ? input(layer) : 0;
  }

  double workspace(std::size_t first, std::size_t last) const {
    if (first == last) return 0;
    double const own = of_.layers[first].workspace;
    if (++first == last) return own;
    auto const k = static_cast<std::size_t>(std::bit_width(last - first)) - 1;
    return std::max({own, workspace_[k][first], workspace_[k][last - (std::size_t{1} << k)]});
  }

  model_profile const& of_;
  std::vector<stage_profile> before_;
  std::vector<std::vector<double>>
      workspace_;  ///< [k][i]: the most of layers [i, i + 2^k), none the first of its stage
};

/// The bytes of a stage as what a cut is to make small: a stage_cost.
class memory_costs {
 public:
  memory_costs(plan_view const& p, model_profile const& of)
      : plan_{p}, of_{of}, sums_{of}, saved_{saved_values(p, of.frees_saved)} {}
  double cost(int stage, int first, int last) const { return of_stage(stage, first, last).total(); }
  /// Boundaries may be smaller further out; the rest grows with the layers.
  double at_least(int stage, int first, int last) const {
    auto const m = of_stage(stage, first, last);
    return m.total() - m.boundaries;
  }
  bool fits(int, int, int) const { return true; }

 private:
  rank_memory of_stage(int stage, int first, int last) const {
    return memory_of_stage(plan_, of_, stage, sums_.stage(first, last), sums_.input(first),
                           saved_[static_cast<std::size_t>(stage)]);
  }

  plan_view plan_;
  model_profile const& of_;
  layer_sums sums_;
  std::vector<int> saved_;
};

inline double dearest_memory(std::vector<rank_memory> const& ranks) {
  double most = 0;
  for (auto const& each : ranks) most = std::max(most, each.total());
  return most;
}

}  // namespace detail

/// A plan's stages as times of a chain: what each rank does for a micro-batch, and the transfers that overlap with it.
inline cost_chain<double> times_of(plan_view const& p, model_profile const& of, cluster const& on) {
  cost_chain<double> times;
  bool const trains = p.backward != backward_form::none;
  bool const again = trains && p.wants.recompute != recompute_mode::never;
  for (auto const& l : of.layers)
    times.work.push_back(trains ? l.work() + l.update / p.update_interval() + (again ? l.recompute : 0) : l.forward);
  double slowest = std::numeric_limits<double>::infinity();  // bytes a second of any boundary between two ranks
  std::vector<double> bandwidth;                             // behind each stage; infinite between two of one rank
  for (int s = 0; s < p.stages(); ++s) {
    int const from = p.rank_of_stage[s], to = s + 1 < p.stages() ? p.rank_of_stage[s + 1] : from;
    bandwidth.push_back(from == to ? std::numeric_limits<double>::infinity() : on.link_between(from, to).bandwidth);
    slowest = std::min(slowest, bandwidth.back());
  }
  if (slowest < std::numeric_limits<double>::infinity()) {
    for (std::size_t i = 0; i + 1 < of.layers.size(); ++i) times.crossing.push_back(of.layers[i].output / slowest);
    for (double const each : bandwidth) times.link_pace.push_back(slowest / each);
  }
  if (!on.pace.empty())
    for (int s = 0; s < p.stages(); ++s) times.pace.push_back(on.pace_of(p.rank_of_stage[s]));
  return times;
}

/// The cut for a plan whose fullest rank holds as little as can be (of several stages a rank: whose fullest stage does); none
/// where there are fewer layers than stages.
inline std::optional<std::vector<int>> leanest_cut(plan_view const& p, model_profile const& of) {
  auto found = cheapest_cut(detail::memory_costs(p, of), of.count(), p.stages());
  return found ? std::optional(std::move(found->sizes)) : std::nullopt;
}

/// A cut for a plan.
struct planned_cut {
  std::vector<int> sizes;  ///< layers of each stage
  double gap = 0;          ///< how much cheaper, as a part of it, the dearest rank might be at most; 0: it is the best
};

/// The cut for a plan whose dearest rank is as cheap as can be, where all ranks stay within the cluster's memory; none where
/// there is none. With one stage a rank it is exact. With several, it is that of cut_by_rank(), if it fits, else the best of
/// those whose stages each keep to an equal share of their rank's memory, else leanest_cut(): none may be found though one exists.
inline std::optional<planned_cut> cut_plan(plan_view const& p, model_profile const& of, cluster const& on,
                                           long long most_nodes = 20'000) {
  auto const times = times_of(p, of, on);
  detail::memory_costs const memory(p, of);
  int const chunks = p.facts.chunks;
  auto const has_share = [&](int stage, int first, int last) {
    return memory.cost(stage, first, last) <= on.memory / chunks;
  };
  if (chunks == 1) {
    auto found = cut_chain(times, p.stages(), has_share);
    return found ? std::optional(planned_cut{std::move(found->sizes)}) : std::nullopt;
  }
  std::vector<int> const placement(p.rank_of_stage, p.rank_of_stage + p.stages());
  auto const all_fit = [&](std::vector<int> const& sizes) {
    return detail::dearest_memory(memory_of_ranks(p, of, sizes)) <= on.memory;
  };
  auto const any = cut_by_rank(times, placement, most_nodes);
  if (!any) return std::nullopt;
  if (all_fit(any->sizes)) return planned_cut{any->sizes, any->gap()};
  auto const judged = [&](std::vector<int> sizes) {
    stage_costs_of_chain<double, no_limit> const costs(times, no_limit{});
    double const dearest = detail::dearest_rank(costs, placement, p.facts.ranks, sizes);
    return planned_cut{std::move(sizes), dearest > any->bound ? 1 - any->bound / dearest : 0};
  };
  if (auto found = cut_by_rank(times, placement, most_nodes, has_share)) return judged(std::move(found->sizes));
  if (auto lean = leanest_cut(p, of); lean && all_fit(*lean)) return judged(std::move(*lean));
  return std::nullopt;
}

}  // namespace pipewright::inline v0
