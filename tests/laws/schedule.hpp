// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <support/exact_timeline.hpp>

/// What every schedule promises, whatever its order is. A new policy adds one test:
///   TEST_CASE("my schedule keeps the laws") { laws::schedule<my_schedule>(); }
namespace laws {

/// The first law of an order that a policy breaks for a legal, complete shape, in words; empty if it keeps them all.
template<pipewright::schedule_policy Policy> std::string broken_law(pipewright::shape s) {
  using pipewright::kind;
  std::vector<int> rank_of, stages_of_rank(static_cast<std::size_t>(s.ranks), 0);
  for (int stage = 0; stage < s.stages(); ++stage) {
    int const rank = Policy::rank_of(s, stage);
    if (rank < 0 || rank >= s.ranks) return "stage " + std::to_string(stage) + " stands on no rank";
    rank_of.push_back(rank);
    ++stages_of_rank[static_cast<std::size_t>(rank)];
  }
  for (int const held : stages_of_rank)
    if (held != s.chunks) return "a rank holds " + std::to_string(held) + " stages";

  auto const programs = support::orders_of<Policy>(s);
  if (programs != support::orders_of<Policy>(s)) return "the order differs from call to call";

  int const total = s.total_micro_batches();
  std::map<std::pair<int, int>, std::vector<kind>> done;  // by (stage, micro-batch), in program order
  for (int r = 0; r < s.ranks; ++r)
    for (auto const a : programs[static_cast<std::size_t>(r)]) {
      auto const text = support::write_order({a}) + " on rank " + std::to_string(r);
      if (a.stage >= s.stages() || rank_of[a.stage] != r) return text + ": the stage is not this rank's";
      if (a.micro_batch < 0 || a.micro_batch >= total) return text + ": there is no such micro-batch";
      done[{a.stage, a.micro_batch}].push_back(a.what);
    }
  std::vector<std::vector<kind>> allowed;
  switch (Policy::backward) {
    case pipewright::backward_form::none: allowed = {{kind::forward}}; break;
    case pipewright::backward_form::full: allowed = {{kind::forward, kind::backward}}; break;
    case pipewright::backward_form::split:
      allowed = {{kind::forward, kind::backward}, {kind::forward, kind::backward_input, kind::backward_weight}};
  }
  for (int stage = 0; stage < s.stages(); ++stage)
    for (int m = 0; m < total; ++m)
      if (auto const& kinds = done[{stage, m}]; std::find(allowed.begin(), allowed.end(), kinds) == allowed.end())
        return "stage " + std::to_string(stage) + " and micro-batch " + std::to_string(m) +
               " are not run through once each, in order";

  if (!support::run_timeline<int>(programs, rank_of, total, {1, 1, 1, 0}))
    return "the ranks wait for one another for ever";
  return {};
}

/// The first law of legality that a policy breaks for a shape as the caller gives it, in words.
template<pipewright::schedule_policy Policy> std::string broken_legality_law(pipewright::shape given) {
  auto const s = pipewright::complete<Policy>(given);
  if (pipewright::complete<Policy>(s) != s) return "completing a complete shape changes it";
  auto const fault = pipewright::check_shape<Policy>(s);
  if (fault.ok()) return {};
  if (std::string{sentence(fault.broken)}.size() < 20) return "the rule has no sentence";
  if (fault.nearest == s) return "the nearest legal shape is the illegal one";
  if (auto const nearest = pipewright::complete<Policy>(fault.nearest); !pipewright::check_shape<Policy>(nearest).ok())
    return "the nearest legal shape, " + support::describe(nearest) + ", is illegal";
  return {};
}

/// Counts what a suite has seen, so that a test can say that it was not empty.
struct shapes_seen {
  int legal = 0, illegal = 0;
};

/// All laws over all P, M, V and group sizes of the ranges; `--full` runs have larger ones.
template<pipewright::schedule_policy Policy>
shapes_seen schedule(int most_ranks = 6, int most_micro_batches = 9, int most_chunks = 3) {
  shapes_seen seen;
  int const most_batches = pipewright::is_stream(Policy::weights) ? 3 : 1;
  for (int p = 1; p <= most_ranks; ++p)
    for (int m = 1; m <= most_micro_batches; ++m)
      for (int v = 0; v <= most_chunks; ++v)
        for (int g = 0; g <= (v > 1 ? most_micro_batches : 0); ++g)
          for (int batches = 1; batches <= most_batches; ++batches) {
            pipewright::shape const given{p, m, v, g, batches};
            CAPTURE(Policy::name);
            CAPTURE(support::describe(given));
            CHECK_EQ(broken_legality_law<Policy>(given), "");
            auto const s = pipewright::complete<Policy>(given);
            if (!pipewright::check_shape<Policy>(s).ok()) {
              ++seen.illegal;
              continue;
            }
            ++seen.legal;
            CHECK_EQ(broken_law<Policy>(s), "");
          }
  CHECK(seen.legal > 0);
  return seen;
}

}  // namespace laws
