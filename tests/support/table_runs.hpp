// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include <support/brute_force.hpp>

#include <pipewright/plan/check_table.hpp>

namespace support {

/// A table of blocking transfers as programs for the brute force: room for everything, an update after every backward
/// under weight stashing, else at the end.
inline program_set programs_of_table(orders const& table, pipewright::shape s, std::vector<int> const& rank_of,
                                     pipewright::weight_rule weights) {
  using pipewright::kind;
  bool const stashes = weights == pipewright::weight_rule::stashing;
  program_set p{s, weights, pipewright::backward_form::split, {}, {}, rank_of, {}, {}};
  int const m = s.micro_batches;
  p.slots.assign(rank_of.size(), {m, m, 0, 0, m, m, m, m});
  p.weight_buffers.assign(static_cast<std::size_t>(s.ranks), stashes ? s.micro_batches + 1 : 1);
  for (int r = 0; r < s.ranks; ++r) {
    std::vector<pipewright::instruction> row;
    auto update = [&](int stage, int micro_batch, int version) {
      row.push_back({pipewright::make_action(kind::update, stage, micro_batch), version});
    };
    for (auto const a : table[static_cast<std::size_t>(r)]) {
      row.push_back({a, pipewright::is_compute(a.what) ? version_of_the_papers(p, r, a.micro_batch) : 0});
      if (stashes && pipewright::gives_weight_gradient(a.what)) update(a.stage, a.micro_batch, a.micro_batch + 1);
    }
    for (std::size_t stage = 0; stage < rank_of.size() && !stashes; ++stage)
      if (rank_of[stage] == r) update(static_cast<int>(stage), m - 1, 1);
    p.programs.push_back(row);
  }
  return p;
}

/// A table in the library's own form.
inline pipewright::rows<pipewright::action> rows_of(orders const& table) {
  std::size_t total = 0;
  for (auto const& row : table) total += row.size();
  pipewright::rows<pipewright::action> rows(static_cast<int>(table.size()), total);
  std::size_t at = 0;
  for (std::size_t r = 0; r < table.size(); ++r) {
    for (auto const a : table[r]) rows.items[at++] = a;
    rows.first[r + 1] = at;
  }
  return rows;
}

/// The library's word on a table.
inline pipewright::verdict check(orders const& table,
                                 pipewright::weight_rule weights = pipewright::weight_rule::synchronous) {
  return pipewright::check_table(rows_of(table).view(), {.weights = weights});
}

}  // namespace support
