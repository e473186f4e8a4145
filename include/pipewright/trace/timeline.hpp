// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <pipewright/plan/plan_view.hpp>
#include <pipewright/plan/simulate.hpp>

namespace pipewright::inline v0 {

/// What one rank did from `begin` to `end`.
struct timed_action {
  int rank;
  instruction ran;
  double begin;
  double end;
};

/// What the times of a trace are.
enum class time_unit : std::uint8_t {
  of_cost,  ///< the unit in which the costs of a simulation are given
  seconds,  ///< seconds
};

/// What every rank did and when, predicted (`trace_of`) or measured (`recorder`): what pictures and trace files are made
/// of. Times begin near 0.
struct trace {
  std::string title = {};
  int ranks = 0;
  int chunks = 1;
  bool has_weight_versions = false;  ///< whether actions read different versions, so that pictures say which
  time_unit unit = time_unit::of_cost;
  std::vector<int> rank_of_stage = {};     ///< by stage
  std::vector<timed_action> actions = {};  ///< in time order within each rank
};

/// A trace's sums, from the first to the last compute action or update.
struct trace_totals {
  double begin = 0;
  double end = 0;
  std::vector<double> busy;    ///< by rank: time in compute actions
  std::vector<int> in_flight;  ///< by rank: most forwards whose backward had not ended yet
  double length() const { return end - begin; }
  /// Idle share of rank r, 0..1.
  double idle(int r) const { return length() > 0 ? 1 - busy[r] / length() : 0; }
  /// Idle share of all ranks together, 0..1.
  double idle() const {
    double sum = 0;
    for (double const b : busy) sum += b;
    return length() > 0 && !busy.empty() ? 1 - sum / (length() * static_cast<double>(busy.size())) : 0;
  }
};

/// Sums over a trace; linear.
inline trace_totals totals_of(trace const& t) {
  trace_totals result;
  auto const ranks = static_cast<std::size_t>(t.ranks);
  result.busy.resize(ranks);
  result.in_flight.resize(ranks);
  std::vector<int> held(ranks);
  bool first = true, backward = false;
  for (auto const& a : t.actions) backward = backward || gives_weight_gradient(a.ran.what.what);
  for (auto const& a : t.actions) {
    if (!is_compute(a.ran.what.what) && a.ran.what.what != kind::update) continue;
    auto const r = static_cast<std::size_t>(a.rank);
    result.begin = first ? a.begin : std::min(result.begin, a.begin);
    result.end = first ? a.end : std::max(result.end, a.end);
    first = false;
    if (is_compute(a.ran.what.what)) result.busy[r] += a.end - a.begin;
    if (a.ran.what.what == kind::forward) result.in_flight[r] = std::max(result.in_flight[r], ++held[r]);
    if (gives_weight_gradient(a.ran.what.what) || (a.ran.what.what == kind::forward && !backward)) --held[r];
  }
  return result;
}

namespace detail {

inline trace empty_trace(plan_view const& p) {
  trace t;
  auto const& f = p.facts;
  t.title = std::string(p.schedule) + ", " + std::to_string(f.ranks) + (f.ranks == 1 ? " rank, " : " ranks, ") +
            (f.chunks > 1 ? std::to_string(f.chunks) + " chunks, " : "") + std::to_string(f.total_micro_batches()) +
            (f.total_micro_batches() == 1 ? " micro-batch" : " micro-batches");
  t.ranks = f.ranks;
  t.chunks = f.chunks;
  t.has_weight_versions = pipewright::is_stream(p.weights);
  t.rank_of_stage.assign(p.rank_of_stage, p.rank_of_stage + p.stages());
  return t;
}

}  // namespace detail

/// A predicted trace: what simulate() found for a plan that ends, and an update, which takes no time, where the plan has
/// it. Linear.
template<class T> trace trace_of(plan_view const& p, timeline<T> const& predicted) {
  trace t = detail::empty_trace(p);
  t.actions.reserve(predicted.spans.items.size());
  for (int r = 0; r < p.facts.ranks; ++r) {
    auto const* span = predicted.spans.view().begin_of(r);
    double now = 0;
    for (instruction const i : p.programs[r]) {
      if (is_compute(i.what.what)) {
        now = static_cast<double>(span->end);
        t.actions.push_back({r, i, static_cast<double>(span++->begin), now});
      } else if (i.what.what == kind::update) {
        t.actions.push_back({r, i, now, now});
      }
    }
  }
  return t;
}

}  // namespace pipewright::inline v0
