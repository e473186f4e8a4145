// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/plan/simulate.hpp>

namespace pipewright::inline v0 {

/// The programs of a stream for its first micro-batches only, as many as `batches` batches have. What is left out comes
/// later in every program than all it needs, so that this is the stream cut short and drained. Linear.
inline rows<instruction> first_batches(plan_view const& stream, int batches) {
  int const micro_batches = batches * stream.facts.micro_batches, updates = micro_batches / stream.update_interval();
  int const per_micro_batch = stream.backward == backward_form::split ? 3 : 2;
  std::vector<int> work(static_cast<std::size_t>(stream.facts.ranks));  // by rank: compute actions and updates
  for (int s = 0; s < stream.stages(); ++s) work[stream.rank_of_stage[s]] += per_micro_batch * micro_batches + updates;
  auto each = [&](int rank, auto&& emit) {
    int missing = work[rank];
    for (long long at = 0; missing > 0; ++at) {
      instruction const i = stream.at(rank, at);
      if (i.what.micro_batch >= micro_batches) continue;
      missing -= (is_compute(i.what.what) && i.what.what != kind::recompute) || i.what.what == kind::update;
      emit(i);
    }
  };
  std::size_t total = 0;
  for (int r = 0; r < stream.facts.ranks; ++r) each(r, [&](instruction) { ++total; });
  rows<instruction> result(stream.facts.ranks, total);
  std::size_t next = 0;
  for (int r = 0; r < stream.facts.ranks; ++r) {
    each(r, [&](instruction i) { result.items[next++] = i; });
    result.first[r + 1] = next;
  }
  return result;
}

/// When each rank does what in a stream's first batches, up to their last update. Linear.
template<class T> timeline<T> simulate_first_batches(plan_view const& stream, int batches, costs<T> const& cost) {
  auto const programs = first_batches(stream, batches);
  plan_view ending = stream;
  ending.facts.batches = batches;
  ending.programs = programs.view();
  ending.period_micro_batches = 0;
  return simulate(ending, cost);
}

/// The idle share of a stream's period, 0 .. 1: what remains of the bubble when filling and draining are far away.
/// Throws pipewright::error for a plan that ends, which has no period, and for costs under which no period shows (stages
/// of very different length). Runs the stream for some 4 P micro-batches or, where that does not settle, up to 64 P.
template<class T> T steady_bubble(plan_view stream, costs<T> const& cost) {
  if (!stream.is_stream()) throw error("a plan that ends has no steady state; ask for its makespan");
  int const ranks = stream.facts.ranks;
  for (int rounds = 4; rounds <= 64; rounds *= 2) {
    int const batches = (rounds * ranks + stream.facts.micro_batches - 1) / stream.facts.micro_batches;
    auto const times = simulate_first_batches(stream, batches, cost);

    // Ends of each micro-batch's backward, by rank, before draining begins. A cycle of waits goes from a rank down to
    // another and back, to a micro-batch as many later as it visits ranks: a period is at most P micro-batches.
    int const last = batches * stream.facts.micro_batches - 1 - ranks, all = last + 1;
    std::vector<T> end(static_cast<std::size_t>(ranks) * static_cast<std::size_t>(all));
    T work = 0;  // of a micro-batch, on the rank that has most
    for (int r = 0; r < ranks; ++r) {
      T busy = 0;
      for (auto const& span : times.spans.view()[r]) {
        int const m = span.what.what.micro_batch;
        if (m == last) busy += span.end - span.begin;
        if (m <= last && gives_weight_gradient(span.what.what.what))
          end[static_cast<std::size_t>(r) * static_cast<std::size_t>(all) + static_cast<std::size_t>(m)] = span.end;
      }
      work = std::max(work, busy);
    }
    auto same = [](T const& a, T const& b) {
      if constexpr (std::is_floating_point_v<T>) return std::abs(a - b) <= 1e-9 * std::abs(a);
      else return a == b;
    };
    for (int length = ranks; length > 0; --length) {
      T const period = end[last] - end[last - length];
      bool settled = true;
      for (int r = 0; r < ranks && settled; ++r) {
        T const* const row = end.data() + static_cast<std::size_t>(r) * static_cast<std::size_t>(all);
        for (int m = last; m > last - 2 * ranks && m >= length && settled; --m)
          settled = same(row[m] - row[m - length], period);
      }
      if (settled) return period == T(0) ? T(0) : T(1) - T(length) * work / period;
    }
  }
  throw error(
      "no period shows within 64 P micro-batches: stage times differ too much; simulate a longer stream and compare "
      "makespans");
}

}  // namespace pipewright::inline v0
