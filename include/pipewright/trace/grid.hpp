// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include <pipewright/plan/simulate.hpp>
#include <pipewright/trace/chart.hpp>

namespace pipewright::inline v0 {

namespace detail {

/// Every compute action one unit of time, transfers none.
inline costs<double> unit_costs(plan_view const& p) {
  std::vector<double> const one(static_cast<std::size_t>(p.stages()), 1), none(static_cast<std::size_t>(p.stages()), 0);
  costs<double> cost;
  cost.stage_forward = cost.stage_backward_input = cost.stage_recompute = one;
  cost.stage_backward_weight = p.backward == backward_form::split ? one : none;
  return cost;
}

/// The beginning of a stream as a plan that ends after `batches` batches, and how many compute actions of each rank the
/// stream would run before the first action that is left out.
struct stream_head {
  rows<instruction> programs;
  std::vector<int> before_cut;
};

inline stream_head head_of(plan_view const& p, int batches) {
  int const total = batches * p.facts.micro_batches;
  std::vector<std::vector<instruction>> kept(static_cast<std::size_t>(p.facts.ranks));
  stream_head head;
  std::size_t sum = 0;
  for (int r = 0; r < p.facts.ranks; ++r) {
    auto& row = kept[static_cast<std::size_t>(r)];
    int missing = 0, before_cut = -1, computed = 0;  // compute actions still to come
    for (int s = 0; s < p.stages(); ++s) missing += (p.rank_of_stage[s] == r) * total * (p.backward == backward_form::split ? 3 : 2);
    for (long long at = 0; missing > 0; ++at) {
      instruction const i = p.at(r, at);
      if (is_compute(i.what.what) && i.what.micro_batch >= total && before_cut < 0) before_cut = computed;
      if (i.what.micro_batch >= total) continue;
      row.push_back(i);
      computed += is_compute(i.what.what);
      missing -= is_compute(i.what.what) && i.what.what != kind::recompute;
    }
    head.before_cut.push_back(before_cut < 0 ? computed : before_cut);
    sum += row.size();
  }
  head.programs = rows<instruction>(p.facts.ranks, sum);
  std::size_t next = 0;
  for (int r = 0; r < p.facts.ranks; ++r) {
    for (instruction const i : kept[static_cast<std::size_t>(r)]) head.programs.items[next++] = i;
    head.programs.first[static_cast<std::size_t>(r) + 1] = next;
  }
  return head;
}

/// A stream up to the moment at which the first rank would run what the head leaves out.
inline trace trace_of_head(plan_view p) {
  int const batches = (3 * p.facts.ranks + p.facts.micro_batches - 1) / p.facts.micro_batches + 1;
  stream_head const head = head_of(p, batches);
  p.programs = head.programs.view();
  p.facts.batches = batches;
  p.period = nullptr;
  auto const times = simulate(p, unit_costs(p));
  trace t = trace_of(p, times);
  double cut = times.makespan;
  for (int r = 0; r < p.facts.ranks; ++r)
    if (int const n = head.before_cut[static_cast<std::size_t>(r)]; n > 0)
      cut = std::min(cut, times.spans.view()[r][static_cast<std::size_t>(n) - 1].end);
  std::erase_if(t.actions, [&](timed_action const& a) { return a.end > cut; });
  return t;
}

}  // namespace detail

/// A plan as a grid in text: a line a rank, a column a unit of time in which every action takes one; at the end of the
/// line the rank's bubble and what it holds in flight at most, in chunks. Of a stream, the beginning. Takes a plan_view
/// and whatever has `.view()`.
///
///     rank 0 | F0 F1 .. B0 F2 B1 F3 B2 .. B3 | bubble 2 of 10, in flight 2
///     rank 1 | .. F0 B0 F1 B1 F2 B2 F3 B3 .. | bubble 2 of 10, in flight 1
inline std::string grid(plan_view const& p) {
  if (p.is_stream()) return chart(detail::trace_of_head(p), {.versions = true});
  return chart(trace_of(p, simulate(p, detail::unit_costs(p))));
}
std::string grid(auto const& plan)
  requires requires { plan_view{plan.view()}; }
{
  return grid(plan_view{plan.view()});
}

}  // namespace pipewright::inline v0
