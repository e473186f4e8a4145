// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>
#include <string>
#include <vector>

#include <pipewright/plan/simulate.hpp>
#include <pipewright/plan/steady.hpp>
#include <pipewright/trace/chart.hpp>

namespace pipewright::inline v0 {

namespace detail {

/// Every compute action one unit of time, transfers none.
template<std::same_as<plan_view> Plan> costs<double> unit_costs(Plan const& p) {
  std::vector<double> const one(static_cast<std::size_t>(p.stages()), 1), none(static_cast<std::size_t>(p.stages()), 0);
  costs<double> cost;
  cost.stage_forward = cost.stage_backward_input = cost.stage_recompute = one;
  cost.stage_backward_weight = p.backward == backward_form::split ? one : none;
  return cost;
}

/// A stream up to the moment at which some rank would begin what its first batches do not hold.
template<std::same_as<plan_view> Plan> trace trace_of_head(Plan p) {
  plan_view const stream = p;
  int const enough =
      (2 * p.facts.ranks + 1 + p.facts.micro_batches) / p.facts.micro_batches;  // batches, for 2P + 2 micro-batches
  p.facts.batches =
      p.weights == weight_rule::double_buffered ? std::max(3, enough) : enough;  // and a first new version
  auto const programs = first_batches(stream, p.facts.batches);
  p.programs = programs.view();
  p.period_micro_batches = 0;
  auto const times = simulate(p, unit_costs(p));
  double cut = times.makespan;
  for (int r = 0; r < p.facts.ranks; ++r) {
    int whole = 0;  // compute actions before the first that is left out
    for (long long at = 0; whole < times.spans.view().length(r); ++at) {
      action const a = stream.at(r, at).what;
      if (is_compute(a.what) && a.micro_batch >= p.facts.total_micro_batches()) break;
      whole += is_compute(a.what);
    }
    if (whole > 0) cut = std::min(cut, times.spans.view()[r][whole - 1].end);
  }
  trace t = trace_of(p, times);
  std::size_t kept = 0;
  for (timed_action const& a : t.actions)
    if (a.end <= cut) t.actions[kept++] = a;
  while (t.actions.size() > kept) t.actions.pop_back();
  return t;
}

}  // namespace detail

/// A plan as a grid in text: a line a rank, a column a unit of time in which every action takes one; at the end of the
/// line the rank's bubble and what it holds in flight at most, in chunks. Of a stream, the beginning.
///
///     rank 0 | F0 F1 .. B0 F2 B1 F3 B2 .. B3 | bubble 2 of 10, in flight 2
///     rank 1 | .. F0 B0 F1 B1 F2 B2 F3 B3 .. | bubble 2 of 10, in flight 1
template<std::convertible_to<plan_view> Plan> std::string grid(Plan const& plan) {
  plan_view const p = plan;
  if (p.is_stream()) return chart(detail::trace_of_head(p), {.versions = true});
  return chart(trace_of(p, simulate(p, detail::unit_costs(p))));
}

}  // namespace pipewright::inline v0
