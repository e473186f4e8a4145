// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/plan/plan.hpp>
#include <pipewright/schedule/forward_only.hpp>

namespace pipewright::inline v0 {

/// The proven plan that evaluates what another one trains: forward_only's order over the stages where they stand, whatever
/// the placement. Linear in the actions, and P * S.
inline dynamic_plan make_evaluation_plan(plan_view const& trained) {
  shape const s{
      .ranks = trained.facts.ranks, .micro_batches = trained.facts.micro_batches, .chunks = trained.facts.chunks};
  block<int> rank_of_stage(static_cast<std::size_t>(s.stages())), own(static_cast<std::size_t>(s.stages()));
  for (int stage = 0; stage < s.stages(); ++stage)
    rank_of_stage[static_cast<std::size_t>(stage)] = trained.rank_of_stage[stage];

  rows<action> orders(s.ranks, static_cast<std::size_t>(s.stages()) * static_cast<std::size_t>(s.micro_batches));
  action* next = orders.items.data();
  for (int r = 0; r < s.ranks; ++r) {
    int held = 0;
    for (int stage = 0; stage < s.stages(); ++stage)
      if (trained.rank_of_stage[stage] == r) own[static_cast<std::size_t>(held++)] = stage;
    forward_only::over(
        s, held, [&](int chunk) { return own[static_cast<std::size_t>(chunk)]; }, [&](action a) { *next++ = a; });
    orders.first[static_cast<std::size_t>(r) + 1] = static_cast<std::size_t>(next - orders.items.data());
  }

  dynamic_plan plan;
  verdict v = dynamic_plan::make(plan, detail::facts_of<forward_only>(s, {}), static_cast<block<int>&&>(rank_of_stage),
                                 orders.view());
  if (v.ok()) v = verify(plan.view());
  if (!v.ok()) throw error(describe(forward_only::name, v));
  return plan;
}

}  // namespace pipewright::inline v0
