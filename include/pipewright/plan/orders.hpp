// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/plan/verdict.hpp>
#include <pipewright/schedule/policy.hpp>
#include <pipewright/schedule/rows.hpp>

namespace pipewright::inline v0 {

/// Every rank's compute actions in order, as the policy has them. `s` is complete and legal. Of a policy that emits too many
/// the first are kept, one more than a complete order has: check_complete finds among them what is wrong. Linear.
template<schedule_policy P> constexpr rows<action> orders_of(shape s) {
  constexpr std::size_t each = P::backward == backward_form::none ? 1 : P::backward == backward_form::full ? 2 : 3;
  rows<action> result(
      s.ranks, each * static_cast<std::size_t>(s.stages()) * static_cast<std::size_t>(s.total_micro_batches()) + 1);
  action *next = result.items.data(), *const end = next + result.items.size();
  for (int r = 0; r < s.ranks; ++r) {
    P::order(s, r, [&](action const& a) {
      if (next != end) *next++ = a;
    });
    result.first[static_cast<std::size_t>(r) + 1] = static_cast<std::size_t>(next - result.items.data());
  }
  return result;
}

/// The rank of every stage, as the policy places them.
template<schedule_policy P> constexpr block<int> placement_of(shape s) {
  block<int> result(static_cast<std::size_t>(s.stages()));
  for (int stage = 0; stage < s.stages(); ++stage) result[static_cast<std::size_t>(stage)] = P::rank_of(s, stage);
  return result;
}

/// Rule `complete`, and that every action stands on its stage's rank. Judges compute actions only; linear.
constexpr verdict check_complete(rows_view<action> orders, shape s, int const* rank_of_stage, backward_form backward) {
  int const stages = s.stages(), total = s.total_micro_batches();
  enum : unsigned char { f = 1, i = 2, w = 4 };
  unsigned char const all = backward == backward_form::none ? f : f | i | w;
  block<unsigned char> done(static_cast<std::size_t>(stages) * static_cast<std::size_t>(total));
  for (int r = 0; r < orders.count; ++r) {
    action const* row = orders.begin_of(r);
    for (int at = 0, n = orders.length(r); at < n; ++at) {
      action const a = row[at];
      if (!is_compute(a.what) || a.what == kind::recompute) continue;
      if (a.stage >= stages || a.micro_batch < 0 || a.micro_batch >= total) return {rule::complete, r, at, a};
      if (rank_of_stage[a.stage] != r) return {rule::placement, r, at, a};
      unsigned char& seen = done[static_cast<std::size_t>(a.stage) * static_cast<std::size_t>(total) +
                                 static_cast<std::size_t>(a.micro_batch)];
      unsigned char const needs = a.what == kind::forward ? 0 : a.what == kind::backward_weight ? f | i : f;
      unsigned char const gives = a.what == kind::forward          ? f
                                  : a.what == kind::backward       ? i | w
                                  : a.what == kind::backward_input ? i
                                                                   : w;
      if (seen != needs || (seen | gives | all) != all) return {rule::complete, r, at, a};
      seen |= gives;
    }
  }
  for (int stage = 0; stage < stages; ++stage)
    for (int m = 0; m < total; ++m)
      if (unsigned char const seen =
              done[static_cast<std::size_t>(stage) * static_cast<std::size_t>(total) + static_cast<std::size_t>(m)];
          seen != all) {
        int const r = rank_of_stage[stage];
        kind const missing = !(seen & f) ? kind::forward : seen & i ? kind::backward_weight : kind::backward;
        return {rule::complete, r, r >= 0 && r < orders.count ? orders.length(r) : 0, make_action(missing, stage, m)};
      }
  return sound;
}

}  // namespace pipewright::inline v0
