// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <utility>

#include <pipewright/cuda/context.hpp>
#include <pipewright/nccl/channel.hpp>
#include <pipewright/nccl/connections.hpp>
#include <pipewright/nccl/guard.hpp>
#include <pipewright/nccl/lane.hpp>
#include <pipewright/nccl/manifest.hpp>
#include <pipewright/nccl/options.hpp>

namespace pipewright::inline v0::nccl::detail {

/// Moves values over channels: tells receivers' hosts of them where these must know, queues each channel's transfers in their order,
/// those of a lane of all channels as groups, and lets the rank's stream wait for them.
template<transport Control> class transfers {
 public:
  transfers(Control& control, cuda::context& where, options const& how, guard<Control>& guarded,
            connections<Control>& over)
      : control_{control}, where_{where}, how_{how}, guard_{guarded}, connections_{over} {}
  transfers(transfers const&) = delete;
  transfers& operator=(transfers const&) = delete;

  ticket post(channel& c, message slot) {
    transfer& made = begin(c, slot);
    if (is_told(c.end() - 1)) made.telling = control_.post(c.handle, message_of(made.told));
    receive(c);
    return {c.handle, c.end() - 1};
  }
  ticket send(channel& c, message value) {
    transfer& made = begin(c, value);
    auto const number = c.end() - 1;
    describe(value, made.told, how_.shapes == fixed && number > 0 ? &*c.first_told : nullptr);
    if (how_.shapes == fixed) check_fixed(c, number, made.told);
    if (how_.one_communicator && number == 0) make_whole(made.told, value);
    made.uses_device = made.told.uses_device();
    made.on_device = made.told.on_device;
    if (is_told(number)) made.telling = control_.send(c.handle, message_of(made.told));
    c.queued = c.end();
    queue_or_keep_back(c, made);
    return {c.handle, number};
  }
  /// Whether a transfer is queued on the device, if any of it goes there; the rank's stream now waits for it.
  bool poll(channel& c, std::uint64_t number) {
    if (number < c.first) return true;
    transfer& t = c.at(number);
    if (!t.is_queued) {
      where_.hand_over();  // the other rank may need it first
      bring_up(c, number);
    }
    if (!t.is_queued) return false;
    if (t.uses_device && t.held == 0) {
      t.end.hold(where_.stream());
      t.held = ++holds_;
    }
    return true;
  }
  /// Receives what has been told of, drops what is over, and lets leave what was kept back.
  void go_on(channels& all) {
    all.for_each([&](channel& c) {
      if (!c.sends) receive(c);
      drop(c);
    });
    let_leave();
  }
  void let_leave() {
    lane* const shared = connections_.shared();
    if (shared == nullptr || shared->kept_back.empty()) return;
    auto const together = std::exchange(shared->kept_back, {});
    queue(*shared, together);
  }
  /// At the end: a manifest that the control transport may still touch is left to it.
  void forget(channels& all) {
    all.for_each([&](channel& c) {
      for (auto& each : c.kept) {
        if (!each->telling || guard_.has_stopped()) continue;
        try {
          if (!control_.poll(*each->telling)) static_cast<void>(each.release());
        } catch (std::exception const&) {  // it touches nothing any more
        }
      }
    });
  }

 private:
  /// Whether the sender's host tells of a transfer.
  bool is_told(std::uint64_t number) const { return how_.shapes == varying || number == 0; }

  transfer& begin(channel& c, message value) {
    if (c.kept.size() >= most_kept) drop(c);
    transfer& made = c.append(value);
    made.last_use.record(where_.stream());
    return made;
  }
  void check_fixed(channel& c, std::uint64_t number, manifest const& told) {
    if (number == 0) c.first_told = told;
    else if (told != *c.first_told)
      guard_.fail(
          guard_.located() + " sends " + pipewright::detail::spelled(c.key, number) +
          " with another shape, or other parts on the host, than the first; set nccl::options::shapes to varying");
  }

  /// Whether a posted slot is ready for what comes: its shape is known, and the slot has it.
  bool is_ready(channel& c, std::uint64_t number) {
    transfer& t = c.at(number);
    if (t.is_ready) return true;
    if (t.telling) {
      if (!control_.poll(*t.telling)) return false;
      t.telling.reset();
    }
    if (!is_told(number) && !c.first_told) return false;
    auto const& told = is_told(number) ? t.told : *c.first_told;
    if (told.type != t.value.type->name)
      guard_.fail(pipewright::detail::unlike_types(c.key, number, told.type, t.value.type->name));
    auto const before = cuda::detail::places_of(t.value);
    apply(told, t.value);
    if (cuda::detail::places_of(t.value) != before)
      t.last_use.record(where_.stream());  // memory that grew is there from here on only
    t.uses_device = told.uses_device();
    t.on_device = told.on_device;
    if (how_.shapes == fixed && number == 0) describe(t.value, c.first_told.emplace(), &t.told);
    return t.is_ready = true;
  }
  /// Queues the receives that can be, in their order. Of one communicator of all ranks only those before `needed`.
  void receive(channel& c, std::uint64_t needed = 0) {
    if (c.is_receiving) return;
    raised const now(c.is_receiving);
    while (c.queued < c.end() && is_ready(c, c.queued)) {
      transfer& t = c.at(c.queued);
      if (t.uses_device && is_over_shared(c) && c.queued >= needed) return;
      ++c.queued;
      queue_or_keep_back(c, t);
    }
  }
  bool is_over_shared(channel const& c) const { return c.over != nullptr && c.over->is_shared(); }

  void queue_or_keep_back(channel& c, transfer& t) {
    if (!t.uses_device) {
      t.is_queued = true;
      return;
    }
    if (c.over == nullptr)
      guard_.fail(guard_.located() + " has a value on its device for " + pipewright::detail::spelled(c.key) +
                  ", which is not connected; open it on both ranks before agree() (a pipeline does so)");
    if (is_over_shared(c) && cuda::detail::notebook_here != nullptr)
      guard_.fail(
          "pipewright: what one communicator of all ranks moves cannot be part of a step's graph; leave each channel a "
          "communicator of its own, or run steps without a step_graph");
    std::pair const one(&c, &t);
    if (is_over_shared(c)) c.over->kept_back.push_back(one);
    else queue(*c.over, {&one, 1});
  }
  /// A transfer is needed: what was kept back leaves, and with it the receives up to that one come.
  void bring_up(channel& c, std::uint64_t number) {
    receive(c, number + 1);
    let_leave();
  }
  /// Queues transfers as one group, after their slots' last uses.
  void queue(lane& over, std::span<std::pair<channel*, transfer*> const> together) {
    for (auto const& [c, t] : together) t->last_use.hold(over.stream());
    group all(over.over());
    for (auto const& [c, t] : together) {
      std::size_t i = 0;
      for_each_part_of(t->value, [&, c = c, t = t](part p) {
        if (t->on_device[i++] != 0) all.add(c->sends, c->peer_in_lane(), p.data, p.bytes);
      });
    }
    over.move(guard_, all);
    for (auto const& [c, t] : together) {
      t->end.record(over.stream());
      t->is_queued = true;
    }
  }
  /// Drops the oldest transfers that are over.
  void drop(channel& c) {
    while (!c.kept.empty()) {
      transfer& t = *c.kept.front();
      if (c.sends && t.telling && control_.poll(*t.telling)) t.telling.reset();
      if (t.telling || !t.is_over()) return;
      c.drop_first();
    }
  }

  static constexpr std::size_t most_kept = 32;  // transfers of a channel, before those that are over are looked for

  Control& control_;
  cuda::context& where_;
  options const& how_;
  guard<Control>& guard_;
  connections<Control>& connections_;
  std::uint64_t holds_ = 0;  // of the rank's stream, for transfers
};

}  // namespace pipewright::inline v0::nccl::detail
