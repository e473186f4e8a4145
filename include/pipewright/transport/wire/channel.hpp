// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include <pipewright/schedule/action.hpp>
#include <pipewright/transport/wire/control.hpp>
#include <pipewright/transport/wire/transfer.hpp>

namespace pipewright::inline v0::wire::detail {

/// One directed channel: its transfers, oldest first, and values to go on with.
template<link Link> struct channel {
  using transfer = detail::transfer<Link>;

  channel_key key{};
  bool sends = false;
  bool value_follows = false;  // the last frame that came in
  std::uint64_t first = 0;     // number of the first transfer that is not complete
  std::deque<transfer> live;
  std::vector<transfer> spare;
  std::vector<std::unique_ptr<spare_values>> pools;

  /// So many frames are asked for at once: one that is sent before it is asked for takes Gloo three hops instead of one.
  static constexpr int frames_ahead = 2;
  /// The room of that transfer's frame. What it turned out to need is the room of the frame `frames_ahead` later, the first
  /// that has not been asked for.
  std::size_t& room(std::uint64_t number) { return rooms_[number % frames_ahead]; }

  int peer() const { return sends ? key.destination : key.source; }
  /// Two tags for each kind of traffic: frames, and what follows them.
  int tag() const { return control_tags + 2 * static_cast<int>(key.carries); }
  /// How many transfers are through, in order.
  std::uint64_t through() const {
    std::uint64_t number = first;
    for (auto const& each : live) {
      if (!each.is_through()) break;
      ++number;
    }
    return number;
  }
  std::uint64_t end() const { return first + live.size(); }
  /// Whether the next transfer to come in has not even begun.
  bool awaits_a_head() const {
    for (auto const& each : live)
      if (!each.is_through()) return !each.is_past_its_head();
    return false;
  }
  transfer& append() {
    if (spare.empty()) return live.emplace_back();
    live.push_back(std::move(spare.back()));
    spare.pop_back();
    return live.back();
  }
  void drop_first() {
    spare.push_back(std::move(live.front()));
    live.pop_front();
    ++first;
  }
  spare_values& pool(message_type const& type) {
    for (auto& each : pools)
      if (&each->type() == &type) return *each;
    return *pools.emplace_back(std::make_unique<spare_values>(type));
  }

 private:
  std::size_t rooms_[frames_ahead]{frame::least_room, frame::least_room};
};

}  // namespace pipewright::inline v0::wire::detail
