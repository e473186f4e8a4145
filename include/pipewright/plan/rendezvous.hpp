// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <pipewright/plan/orders.hpp>

namespace pipewright::inline v0 {

/// A transfer into a rank: the action that consumes it (F, B or I) and the compute index of that rank before which the
/// transfer may be received.
struct arrival {
  action consumer;
  std::int32_t before;
};

/// One global order of all actions, as far as ranks see it: what arrives at each rank and since when.
struct meeting {
  rows<arrival> arrivals;  ///< by rank, in the global order, hence in every channel's order
  block<std::int32_t> forward_at,
      backward_at;        ///< by stage and micro-batch: the compute index of F and of B or I, plus 1
  verdict found = sound;  ///< feasible, or the first action that can never run
};

/// Runs the compute orders as a clock would: sweeps over the ranks, each of them running at most its next action a
/// sweep, and notes each transfer at its producer's moment at both ends at once. Sends and receives placed so appear in
/// one global order; therefore channel orders agree and the table completes even where every transfer blocks until its
/// partner is there. (PyTorch's lowering has the same rule.) Ranks that cannot run sleep until a producer wakes them, so
/// the cost is linear in the actions plus sweeps * P / 64. `orders` are complete.
constexpr meeting meet(rows_view<action> orders, shape s, int const* rank_of_stage, backward_form backward) {
  std::size_t const stages = static_cast<std::size_t>(s.stages()),
                    total = static_cast<std::size_t>(s.total_micro_batches());
  int const ranks = s.ranks;

  meeting result;
  block<std::size_t> incoming(static_cast<std::size_t>(ranks) + 1);
  for (std::size_t stage = 0; stage + 1 < stages; ++stage) {
    int const a = rank_of_stage[stage], b = rank_of_stage[stage + 1];
    if (a == b) continue;
    incoming[static_cast<std::size_t>(b)] += total;
    if (backward != backward_form::none) incoming[static_cast<std::size_t>(a)] += total;
  }
  std::size_t all = 0;
  for (int r = 0; r < ranks; ++r) all += incoming[static_cast<std::size_t>(r)];
  result.arrivals = rows<arrival>(ranks, all);
  std::size_t* const first = result.arrivals.first.data();
  for (int r = 0; r < ranks; ++r) first[r + 1] = first[r] + incoming[static_cast<std::size_t>(r)];
  block<std::size_t> fill(static_cast<std::size_t>(ranks));
  for (int r = 0; r < ranks; ++r) fill[static_cast<std::size_t>(r)] = first[r];
  arrival* const arrivals = result.arrivals.items.data();

  result.forward_at = block<std::int32_t>(stages * total);
  result.backward_at = block<std::int32_t>(stages * total);
  std::int32_t *const forward_at = result.forward_at.data(), *const backward_at = result.backward_at.data();
  block<std::int32_t> emitted_block(static_cast<std::size_t>(ranks));
  std::int32_t* const emitted = emitted_block.data();
  std::size_t const words = (static_cast<std::size_t>(ranks) + 63) / 64;
  block<std::uint64_t> now_block(words), next_block(words);
  std::uint64_t *now = now_block.data(), *next = next_block.data();
  for (int r = 0; r < ranks; ++r) now[r / 64] |= std::uint64_t{1} << (r % 64);

  for (bool awake = true; awake;) {
    awake = false;
    for (std::size_t w = 0; w < words; ++w)
      while (now[w] != 0) {
        int const bit = __builtin_ctzll(now[w]);
        now[w] &= now[w] - 1;
        int const r = static_cast<int>(w) * 64 + bit;
        std::int32_t const at = emitted[r];
        if (at == orders.length(r)) continue;
        action const& a = orders.begin_of(r)[at];
        std::size_t const here = a.stage * total + static_cast<std::size_t>(a.micro_batch);
        int to = -1;  // the stage that waits for this action
        if (a.what == kind::forward) {
          if (a.stage > 0 && forward_at[here - total] == 0) continue;
          forward_at[here] = at + 1;
          if (a.stage + 1u < stages) to = a.stage + 1;
        } else if (gives_input_gradient(a.what)) {
          if (a.stage + 1u < stages && backward_at[here + total] == 0) continue;
          backward_at[here] = at + 1;
          if (a.stage > 0) to = a.stage - 1;
        }
        emitted[r] = at + 1;
        awake = true;
        next[w] |= std::uint64_t{1} << bit;
        if (to < 0 || rank_of_stage[to] == r) continue;
        int const c = rank_of_stage[to];
        arrivals[fill[static_cast<std::size_t>(c)]++] = {
            make_action(a.what == kind::forward ? kind::forward : kind::backward, to, a.micro_batch), emitted[c]};
        (c > r ? now : next)[c / 64] |= std::uint64_t{1} << (c % 64);
      }
    std::uint64_t* const swapped = now;
    now = next;
    next = swapped;
  }
  for (int r = 0; r < ranks; ++r)
    if (emitted[r] < orders.length(r)) {
      result.found = {rule::feasible, r, emitted[r], orders.begin_of(r)[emitted[r]]};
      break;
    }
  return result;
}

/// The compute orders with blocking sends and receives (SEND_F, RECV_F, SEND_B, RECV_B) where the global order has them:
/// safe as it stands, even where every transfer blocks. Linear. `met` is feasible.
constexpr rows<action> rendezvous_table(rows_view<action> orders, meeting const& met, shape s,
                                        int const* rank_of_stage) {
  rows<action> table(s.ranks, orders.total() + 2 * met.arrivals.items.size());
  action* next = table.items.data();
  for (int r = 0; r < s.ranks; ++r) {
    arrival const* in = met.arrivals.view().begin_of(r);
    arrival const* const in_end = in + met.arrivals.view().length(r);
    for (int at = 0, n = orders.length(r); at < n; ++at) {
      action const a = orders.begin_of(r)[at];
      for (; in != in_end && in->before <= at; ++in)
        *next++ = make_action(in->consumer.what == kind::forward ? kind::receive_forward : kind::receive_backward,
                              in->consumer.stage, in->consumer.micro_batch);
      *next++ = a;
      if (a.what == kind::forward && a.stage + 1 < s.stages() && rank_of_stage[a.stage + 1] != r)
        *next++ = make_action(kind::send_forward, a.stage, a.micro_batch);
      if (gives_input_gradient(a.what) && a.stage > 0 && rank_of_stage[a.stage - 1] != r)
        *next++ = make_action(kind::send_backward, a.stage, a.micro_batch);
    }
    table.first[static_cast<std::size_t>(r) + 1] = static_cast<std::size_t>(next - table.items.data());
  }
  return table;
}

}  // namespace pipewright::inline v0
