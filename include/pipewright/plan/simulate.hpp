// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>
#include <vector>

#include <pipewright/plan/channels.hpp>
#include <pipewright/plan/rational.hpp>

namespace pipewright::inline v0 {

/// What one edge costs where it differs from the others.
template<class T> struct edge_cost {
  int source;       ///< rank
  int destination;  ///< rank
  T transfer;       ///< as in costs
  T occupancy;
};

/// Times of one rank and micro-batch, all its chunks together: an action of one chunk takes 1/V of them. T is double
/// (seconds, say) or rational.
template<class T> struct costs {
  T forward = 1;
  T backward_input = 1;
  T backward_weight = 1;
  T recompute = 0;
  T transfer = 0;   ///< latency of an edge between two ranks; it does not occupy the ranks
  T occupancy = 0;  ///< bytes over bandwidth: how long a transfer occupies its channel before the next one
  /// By stage, the action times instead of forward / V and so on; empty, or S values each.
  std::vector<T> stage_forward{}, stage_backward_input{}, stage_backward_weight{}, stage_recompute{};

  /// Edges that differ, each of them once.
  std::vector<edge_cost<T>> edges{};

  constexpr T of(kind k, int stage, int chunks) const {
    auto pick = [&](std::vector<T> const& by_stage, T const& whole) {
      return by_stage.empty() ? whole / T(chunks) : by_stage[static_cast<std::size_t>(stage)];
    };
    switch (k) {
      case kind::forward: return pick(stage_forward, forward);
      case kind::backward_input: return pick(stage_backward_input, backward_input);
      case kind::backward_weight: return pick(stage_backward_weight, backward_weight);
      case kind::backward:
        return pick(stage_backward_input, backward_input) + pick(stage_backward_weight, backward_weight);
      case kind::recompute: return pick(stage_recompute, recompute);
      default: return T(0);
    }
  }
};

/// One action's time.
template<class T> struct span_of_time {
  instruction what{};
  T begin = 0;
  T end = 0;
};

/// When each rank does what: compute actions only.
template<class T> struct timeline {
  rows<span_of_time<T>> spans;
  T makespan = 0;      ///< the last end
  T ideal = 0;         ///< the most work any rank has
  T longest_rank = 0;  ///< max over ranks of (last end - first begin)

  /// Bubble over makespan (GPipe's and Zero Bubble's ratio).
  constexpr T bubble_of_makespan() const { return makespan == T(0) ? T(0) : (makespan - ideal) / makespan; }
  /// Bubble over ideal work (Megatron's ratio).
  constexpr T bubble_of_ideal() const { return ideal == T(0) ? T(0) : (makespan - ideal) / ideal; }
  /// Idle part of the longest rank's own span (the zero-bubble papers' metric).
  constexpr T bubble_of_longest_rank() const {
    return longest_rank == T(0) ? T(0) : (longest_rank - ideal) / longest_rank;
  }
};

/// Runs a proven plan that ends in simulated time: each rank its actions in order, each action when what it reads has
/// arrived. Sends and receives take no time of the ranks. Linear.
template<class T> constexpr timeline<T> simulate(plan_view const& p, costs<T> const& cost) {
  int const ranks = p.facts.ranks, stages = p.stages();
  std::size_t const total = static_cast<std::size_t>(p.facts.total_micro_batches());
  channel_table const channels = channels_of(p);

  timeline<T> result;
  std::size_t all = 0;
  block<std::size_t> first(static_cast<std::size_t>(ranks) + 1);
  for (int r = 0; r < ranks; ++r) {
    for (instruction const i : p.programs[r]) all += is_compute(i.what.what);
    first[static_cast<std::size_t>(r) + 1] = all;
  }
  result.spans = rows<span_of_time<T>>(ranks, all);
  for (int r = 0; r <= ranks; ++r) result.spans.first[static_cast<std::size_t>(r)] = first[static_cast<std::size_t>(r)];

  std::size_t const boundaries = static_cast<std::size_t>(stages) * total;
  block<T> input_at(boundaries), gradient_at(boundaries);  // when a stage's input and output gradient are there
  block<bool> input_there(boundaries), gradient_there(boundaries);
  block<T> link_free(static_cast<std::size_t>(channels.count())), latency(link_free.size()),
      occupancy(link_free.size());
  for (int c = 0; c < channels.count(); ++c) {
    latency[static_cast<std::size_t>(c)] = cost.transfer;
    occupancy[static_cast<std::size_t>(c)] = cost.occupancy;
    for (edge_cost<T> const& e : cost.edges)
      if (e.source == channels.key(c).source && e.destination == channels.key(c).destination) {
        latency[static_cast<std::size_t>(c)] = e.transfer;
        occupancy[static_cast<std::size_t>(c)] = e.occupancy;
      }
  }
  block<T> clock(static_cast<std::size_t>(ranks)), work(static_cast<std::size_t>(ranks));
  block<int> at(static_cast<std::size_t>(ranks)), queue(static_cast<std::size_t>(ranks));
  block<bool> queued(static_cast<std::size_t>(ranks));
  block<std::size_t> next_span(static_cast<std::size_t>(ranks));
  int head = 0, waiting = 0;
  auto wake = [&](int r) {
    if (queued[static_cast<std::size_t>(r)]) return;
    queued[static_cast<std::size_t>(r)] = true;
    queue[static_cast<std::size_t>((head + waiting++) % ranks)] = r;
  };
  for (int r = 0; r < ranks; ++r) {
    next_span[static_cast<std::size_t>(r)] = first[static_cast<std::size_t>(r)];
    wake(r);
  }
  auto hand_over = [&](int from_stage, int to_stage, int channel, T const& done, block<T>& when, block<bool>& there,
                       std::size_t key) {
    T arrives = done;
    if (p.rank_of_stage[from_stage] != p.rank_of_stage[to_stage]) {
      T& free = link_free[static_cast<std::size_t>(channel)];
      free = std::max(free, done) + occupancy[static_cast<std::size_t>(channel)];
      arrives = free + latency[static_cast<std::size_t>(channel)];
    }
    when[key] = arrives;
    there[key] = true;
    wake(p.rank_of_stage[to_stage]);
  };
  while (waiting > 0) {
    int const r = queue[static_cast<std::size_t>(head)];
    head = (head + 1) % ranks;
    --waiting;
    queued[static_cast<std::size_t>(r)] = false;
    instruction const* const row = p.programs.begin_of(r);
    T& now = clock[static_cast<std::size_t>(r)];
    for (int n = p.programs.length(r); at[static_cast<std::size_t>(r)] < n; ++at[static_cast<std::size_t>(r)]) {
      instruction const i = row[at[static_cast<std::size_t>(r)]];
      if (!is_compute(i.what.what)) continue;
      int const s = i.what.stage;
      std::size_t const key = static_cast<std::size_t>(s) * total + static_cast<std::size_t>(i.what.micro_batch);
      T begin = now;
      if (i.what.what == kind::forward && s > 0) {
        if (!input_there[key]) break;
        begin = std::max(begin, input_at[key]);
      }
      if (gives_input_gradient(i.what.what) && s + 1 < stages) {
        if (!gradient_there[key]) break;
        begin = std::max(begin, gradient_at[key]);
      }
      T const duration = cost.of(i.what.what, s, p.facts.chunks);
      now = begin + duration;
      work[static_cast<std::size_t>(r)] += duration;
      result.spans.items[next_span[static_cast<std::size_t>(r)]++] = {i, begin, now};
      if (i.what.what == kind::forward && s + 1 < stages)
        hand_over(s, s + 1, channels.of(make_action(kind::send_forward, s, 0)), now, input_at, input_there,
                  key + total);
      if (gives_input_gradient(i.what.what) && s > 0)
        hand_over(s, s - 1, channels.of(make_action(kind::send_backward, s, 0)), now, gradient_at, gradient_there,
                  key - total);
    }
  }
  for (int r = 0; r < ranks; ++r) {
    auto const row = result.spans.view()[r];
    if (next_span[static_cast<std::size_t>(r)] != first[static_cast<std::size_t>(r) + 1])
      throw error("pipewright: simulate() needs a plan that verify() has found sound");
    if (row.empty()) continue;
    result.makespan = std::max(result.makespan, row.back().end);
    result.longest_rank = std::max(result.longest_rank, row.back().end - row.front().begin);
    result.ideal = std::max(result.ideal, work[static_cast<std::size_t>(r)]);
  }
  return result;
}

}  // namespace pipewright::inline v0
