// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include <support/orders.hpp>

/// Blocking sends and receives for compute orders, by the field's rules; apart from the library's lowering.
namespace support {

using pipewright::action;
using pipewright::kind;

/// The safe rule (PyTorch's): sweeps over the ranks, each emitting at most its next action a sweep; the moment an action is
/// emitted whose result another rank needs, its SEND is appended here and the RECV there. Empty where no sweep moves.
inline orders with_safe_transfers(orders const& compute, std::vector<int> const& rank_of) {
  int const stages = static_cast<int>(rank_of.size());
  orders table(compute.size());
  std::vector<std::size_t> next(compute.size(), 0);
  std::set<std::tuple<kind, int, int>> available;  // F: the input is there; B: the output gradient is
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t r = 0; r < compute.size(); ++r) {
      if (next[r] == compute[r].size()) continue;
      action const a = compute[r][next[r]];
      int const s = a.stage, m = a.micro_batch;
      bool const is_forward = a.what == kind::forward, makes_gradient = pipewright::gives_input_gradient(a.what);
      if (is_forward && s > 0 && !available.contains({kind::forward, s, m})) continue;
      if (makes_gradient && s + 1 < stages && !available.contains({kind::backward, s, m})) continue;
      table[r].push_back(a);
      ++next[r];
      moved = true;
      int const to = is_forward ? s + 1 : makes_gradient ? s - 1 : -1;
      if (to < 0 || to >= stages) continue;
      available.insert({is_forward ? kind::forward : kind::backward, to, m});
      auto const there = static_cast<std::size_t>(rank_of[static_cast<std::size_t>(to)]);
      if (there == r) continue;
      table[r].push_back(pipewright::make_action(is_forward ? kind::send_forward : kind::send_backward, s, m));
      table[there].push_back(
          pipewright::make_action(is_forward ? kind::receive_forward : kind::receive_backward, to, m));
    }
  }
  for (std::size_t r = 0; r < compute.size(); ++r)
    if (next[r] != compute[r].size()) return {};
  return table;
}

/// Each RECV moved to just before the action that needs it: what looks natural, and is not safe.
inline orders with_deferred_receives(orders const& table) {
  orders result;
  for (auto const& row : table) {
    order compute_and_sends;
    std::set<std::tuple<kind, int, int>> received;
    for (auto const a : row)
      if (pipewright::is_receive(a.what)) received.insert({a.what, a.stage, a.micro_batch});
    for (auto const a : row) {
      if (pipewright::is_receive(a.what)) continue;
      auto const needed = a.what == kind::forward ? kind::receive_forward : kind::receive_backward;
      if ((a.what == kind::forward || pipewright::gives_input_gradient(a.what)) &&
          received.contains({needed, a.stage, a.micro_batch}))
        compute_and_sends.push_back(pipewright::make_action(needed, a.stage, a.micro_batch));
      compute_and_sends.push_back(a);
    }
    result.push_back(compute_and_sends);
  }
  return result;
}

/// What shares a channel between two ranks: each kind of traffic has its own, or all of one direction share one.
enum class channel_for { each_traffic, all_traffic };

/// Whether on every directed channel the sends' order is the receives'.
inline bool channel_orders_agree(orders const& table, std::vector<int> const& rank_of,
                                 channel_for sharing = channel_for::each_traffic) {
  using transfer = std::tuple<bool, int, int>;  // forward or not, receiving stage, micro-batch
  std::map<std::tuple<int, int, bool>, std::vector<transfer>> sent, received;
  auto rank = [&](int s) { return rank_of[static_cast<std::size_t>(s)]; };
  auto note = [&](auto& channels, int from, int to, bool forward, int receiver, int m) {
    channels[{rank(from), rank(to), forward || sharing == channel_for::all_traffic}].emplace_back(forward, receiver, m);
  };
  for (auto const& row : table)
    for (auto const a : row) {
      int const s = a.stage, m = a.micro_batch;
      switch (a.what) {
        case kind::send_forward: note(sent, s, s + 1, true, s + 1, m); break;
        case kind::send_backward: note(sent, s, s - 1, false, s - 1, m); break;
        case kind::receive_forward: note(received, s - 1, s, true, s, m); break;
        case kind::receive_backward: note(received, s + 1, s, false, s, m); break;
        default: break;
      }
    }
  return sent == received;
}

/// Whether a table completes when every SEND and RECV stands until its partner is at the head of the peer's row.
inline bool completes_by_rendezvous(orders const& table, std::vector<int> const& rank_of) {
  std::vector<std::size_t> next(table.size(), 0);
  auto head = [&](std::size_t r) { return next[r] < table[r].size() ? &table[r][next[r]] : nullptr; };
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t r = 0; r < table.size(); ++r)
      while (auto const* a = head(r)) {
        if (pipewright::is_send(a->what)) {
          int const to = a->what == kind::send_forward ? a->stage + 1 : a->stage - 1;
          auto const there = static_cast<std::size_t>(rank_of[static_cast<std::size_t>(to)]);
          auto const wanted = pipewright::make_action(
              a->what == kind::send_forward ? kind::receive_forward : kind::receive_backward, to, a->micro_batch);
          if (head(there) == nullptr || *head(there) != wanted) break;
          ++next[there];
        } else if (pipewright::is_receive(a->what)) {
          break;  // the sender moves both
        }
        ++next[r];
        moved = true;
      }
  }
  for (std::size_t r = 0; r < table.size(); ++r)
    if (head(r) != nullptr) return false;
  return true;
}

}  // namespace support
