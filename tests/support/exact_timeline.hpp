// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include <boost/rational.hpp>
#include <support/orders.hpp>

/// When each action of an order runs if every rank starts its next action as soon as the action's inputs are there.
/// Written from the dependencies of the field, apart from the library's simulator.
namespace support {

using fraction = boost::rational<long long>;

/// Times of one chunk's action; `latency` of an edge between two ranks, which occupies neither.
template<class T> struct chunk_times {
  T forward{}, backward_input{}, backward_weight{}, latency{};
};

template<class T> struct exact_timeline {
  std::vector<T> start, end;  ///< by rank: when its first action begins and its last one ends
  std::vector<T> busy;        ///< by rank
  T makespan{};
  T longest_rank() const {
    T longest{};
    for (std::size_t r = 0; r < start.size(); ++r) longest = std::max(longest, T{end[r] - start[r]});
    return longest;
  }
};

/// Nothing if the orders wait for one another for ever.
template<class T>
std::optional<exact_timeline<T>> run_timeline(orders const& programs, std::vector<int> const& rank_of,
                                              int micro_batches, chunk_times<T> const& times) {
  using pipewright::kind;
  auto const ranks = programs.size(), stages = rank_of.size(), m_count = static_cast<std::size_t>(micro_batches);
  using moments = std::vector<std::vector<std::optional<T>>>;
  moments forward_done(stages, std::vector<std::optional<T>>(m_count)), input_gradient_done = forward_done;
  exact_timeline<T> result{std::vector<T>(ranks), std::vector<T>(ranks), std::vector<T>(ranks), T{}};
  std::vector<std::size_t> next(ranks, 0);

  auto after_edge = [&](std::optional<T> const& made, std::size_t from, std::size_t to) -> std::optional<T> {
    if (!made) return {};
    return rank_of[from] == rank_of[to] ? *made : T{*made + times.latency};
  };
  auto ready = [&](pipewright::action a) -> std::optional<T> {
    std::size_t const s = a.stage, m = static_cast<std::size_t>(a.micro_batch);
    if (a.what == kind::forward) return s == 0 ? T{} : after_edge(forward_done[s - 1][m], s - 1, s);
    if (a.what == kind::backward_weight) return input_gradient_done[s][m];
    if (!forward_done[s][m] || s + 1 == stages) return forward_done[s][m];
    auto const from_above = after_edge(input_gradient_done[s + 1][m], s + 1, s);
    return from_above ? std::max(*from_above, *forward_done[s][m]) : from_above;
  };
  auto duration = [&](kind k) {
    return k == kind::forward           ? times.forward
           : k == kind::backward_input  ? times.backward_input
           : k == kind::backward_weight ? times.backward_weight
                                        : T{times.backward_input + times.backward_weight};
  };
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t r = 0; r < ranks; ++r)
      for (; next[r] < programs[r].size(); ++next[r], moved = true) {
        auto const a = programs[r][next[r]];
        auto const inputs_at = ready(a);
        if (!inputs_at) break;
        T const begins = next[r] == 0 ? *inputs_at : std::max(result.end[r], *inputs_at);
        if (next[r] == 0) result.start[r] = begins;
        T const lasts = duration(a.what);
        result.end[r] = begins + lasts;
        result.busy[r] += lasts;
        std::size_t const m = static_cast<std::size_t>(a.micro_batch);
        if (a.what == kind::forward) forward_done[a.stage][m] = result.end[r];
        else if (a.what != kind::backward_weight) input_gradient_done[a.stage][m] = result.end[r];
      }
  }
  for (std::size_t r = 0; r < ranks; ++r) {
    if (next[r] != programs[r].size()) return {};
    result.makespan = std::max(result.makespan, result.end[r]);
  }
  return result;
}

inline std::vector<int> loop_placement(int ranks, int chunks) {
  std::vector<int> result;
  for (int s = 0; s < ranks * chunks; ++s) result.push_back(s % ranks);
  return result;
}

}  // namespace support
