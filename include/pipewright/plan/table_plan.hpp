// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/plan/check_table.hpp>
#include <pipewright/plan/fault_report.hpp>
#include <pipewright/plan/plan.hpp>

namespace pipewright::inline v0 {

/// The proven plan of a schedule given as a table (parse_csv reads one), for the engine: what a policy's order is to a
/// schedule in the type. Transfers of the table are left out, the plan has its own. A table is one batch, so it trains
/// synchronously; rank r is row r, and every rank holds as many stages. Throws pipewright::error: the first fault with its
/// place in the table, or what does not fit. n log n in the actions.
inline dynamic_plan make_plan(rows_view<action> table, table_options const& options = {}, needs wants = {}) {
  if (options.weights != weight_rule::synchronous)
    throw error(
        "pipewright: a table holds one batch, so it trains with weight_rule::synchronous; write a policy for an "
        "asynchronous schedule");
  if (verdict const v = check_table(table, options); !v.ok())
    throw error("pipewright: " + fault_line(v, table.length(v.rank)));

  std::vector<int> const rank_of = options.rank_of_stage.empty() ? ranks_of_stages(table) : options.rank_of_stage;
  int const stages = static_cast<int>(rank_of.size()), chunks = stages / table.count;
  std::vector<int> held(static_cast<std::size_t>(table.count));
  block<int> rank_of_stage(rank_of.size());
  for (std::size_t s = 0; s < rank_of.size(); ++s) ++held[static_cast<std::size_t>(rank_of_stage[s] = rank_of[s])];
  for (int r = 0; r < table.count; ++r)
    if (held[static_cast<std::size_t>(r)] * table.count != stages)
      throw error("pipewright: rank " + std::to_string(r) + " of the table holds " +
                  std::to_string(held[static_cast<std::size_t>(r)]) + " of " + std::to_string(stages) +
                  " stages; to run, every rank holds as many");

  plan_view facts{
      .schedule = "table",
      .facts = {.ranks = table.count, .micro_batches = micro_batches_of(table), .chunks = chunks, .batches = 1},
      .backward = backward_of(table),
      .wants = wants};
  if (facts.backward == backward_form::none) facts.wants = {};
  if (!detail::ties_fit(wants, stages)) throw error(detail::ties_do_not_fit(wants, stages));
  rows<action> orders(table.count, table.total());
  std::size_t next = 0;
  for (int r = 0; r < table.count; ++r) {
    for (action const a : table[r])
      if (is_compute(a.what)) orders.items[next++] = a;
    orders.first[static_cast<std::size_t>(r) + 1] = next;
  }
  dynamic_plan plan;
  verdict v = dynamic_plan::make(plan, facts, static_cast<block<int>&&>(rank_of_stage), orders.view());
  if (v.ok()) v = verify(plan.view());
  if (!v.ok()) throw error(describe(facts.schedule, v));
  return plan;
}

}  // namespace pipewright::inline v0
