// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include <pipewright/partition/cluster.hpp>
#include <pipewright/partition/model_profile.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/plan/simulate.hpp>
#include <pipewright/plan/steady.hpp>

namespace pipewright::inline v0 {

/// Where the time of a step goes, in seconds; the parts add up to the whole. Of a stream: once it is under way.
struct step_time {
  double work = 0;  ///< what every rank would take if the model were cut evenly and no rank ever waited; with updates
  double recompute = 0;      ///< the same of second forwards
  double imbalance = 0;      ///< the dearest rank has so much more to do
  double bubble = 0;         ///< it waits so long for micro-batches, though links cost nothing
  double communication = 0;  ///< and so much longer because they do

  double total() const { return work + recompute + imbalance + bubble + communication; }
};

/// A profile's times and a cluster's links as simulate() takes them, for a plan and a cut. Updates in a stream count as a part
/// of the backwards that they follow; those at the end of a batch do not.
inline costs<double> costs_of(plan_view const& p, model_profile const& of, std::vector<int> const& sizes,
                              cluster const& on) {
  costs<double> c;
  auto const stages = stages_of(of, sizes);
  for (int s = 0; s < p.stages(); ++s) {
    auto const& stage = stages[static_cast<std::size_t>(s)];
    double const pace = on.pace_of(p.rank_of_stage[s]);
    c.stage_forward.push_back(pace * stage.forward);
    c.stage_backward_input.push_back(pace * stage.backward_input);
    c.stage_backward_weight.push_back(
        pace * (stage.backward_weight + (p.is_stream() ? stage.update / p.update_interval() : 0)));
    c.stage_recompute.push_back(pace * stage.recompute);
  }
  c.transfer = on.latency;
  for (int s = 0; s + 1 < p.stages(); ++s) {
    int const from = p.rank_of_stage[s], to = p.rank_of_stage[s + 1];
    if (from == to) continue;
    auto const link = on.link_between(from, to);
    double const seconds = stages[static_cast<std::size_t>(s)].output / link.bandwidth;
    auto const raise = [&](int source, int destination) {
      for (auto& e : c.edges)
        if (e.source == source && e.destination == destination) {
          e.occupancy = std::max(e.occupancy, seconds);  // chunks share an edge: as the largest of them
          return;
        }
      c.edges.push_back({source, destination, link.latency, seconds});
    };
    raise(from, to);
    raise(to, from);
  }
  return c;
}

namespace detail {

/// Seconds of a step under some costs, with the updates at its end, by rank. Of a stream: of M micro-batches, on an average of
/// P of them after it has filled.
inline double seconds_of_step(plan_view const& p, costs<double> const& cost, double dearest,
                              std::vector<double> const& updates) {
  if (!p.is_stream()) {
    auto const times = simulate(p, cost);
    double end = 0;
    for (int r = 0; r < p.facts.ranks; ++r)
      for (auto const& span : times.spans.view()[r])
        end = std::max(end, span.end + updates[static_cast<std::size_t>(r)]);
    return end;
  }
  int const ranks = p.facts.ranks, micro_batches = p.facts.micro_batches;
  auto const times = simulate_first_batches(p, (4 * ranks + micro_batches - 1) / micro_batches, cost);
  double first = 0, last = 0;  // ends of micro-batches 2 P and 3 P; draining begins with 4 P, on a rank that is P ahead
  for (auto const& span : times.spans.view()[0])
    if (gives_weight_gradient(span.what.what.what)) {
      if (span.what.what.micro_batch == 2 * ranks - 1) first = span.end;
      if (span.what.what.micro_batch == 3 * ranks - 1) last = span.end;
    }
  return std::max((last - first) / ranks * micro_batches, dearest);
}

}  // namespace detail

/// What a step takes, and why.
inline step_time time_of_step(plan_view const& p, model_profile const& of, std::vector<int> const& sizes,
                              cluster const& on) {
  auto cost = costs_of(p, of, sizes, on);
  int again = 0;  // micro-batches of a batch whose forward is run twice
  bool const trains = p.backward != backward_form::none;
  for (int m = 0; trains && m < p.facts.micro_batches; ++m) again += is_recomputed(p.wants.recompute, p.facts, m);
  double const micro_batches = p.facts.micro_batches;

  step_time t;
  double const updates = trains ? micro_batches / p.update_interval() : 0;
  for (auto const& l : of.layers) {
    t.work += (micro_batches * (trains ? l.work() : l.forward) + updates * l.update) / on.devices();
    t.recompute += again * l.recompute / on.devices();
  }
  std::vector<double> busy(static_cast<std::size_t>(p.facts.ranks)), at_the_end = busy;
  auto const stages = stages_of(of, sizes);
  for (int s = 0; s < p.stages(); ++s) {
    auto const at = static_cast<std::size_t>(s), rank = static_cast<std::size_t>(p.rank_of_stage[s]);
    if (trains && !p.is_stream()) at_the_end[rank] += on.pace_of(p.rank_of_stage[s]) * stages[at].update;
    busy[rank] += micro_batches * (cost.stage_forward[at] +
                                   (trains ? cost.stage_backward_input[at] + cost.stage_backward_weight[at] : 0)) +
                  again * cost.stage_recompute[at];
  }
  for (std::size_t r = 0; r < busy.size(); ++r) busy[r] += at_the_end[r];
  double const dearest = *std::max_element(busy.begin(), busy.end());
  double const whole = detail::seconds_of_step(p, cost, dearest, at_the_end);
  cost.edges.clear();
  cost.transfer = 0;
  double const without_links = detail::seconds_of_step(p, cost, dearest, at_the_end);
  t.imbalance = dearest - t.work - t.recompute;
  t.bubble = without_links - dearest;
  t.communication = whole - without_links;
  return t;
}

}  // namespace pipewright::inline v0
