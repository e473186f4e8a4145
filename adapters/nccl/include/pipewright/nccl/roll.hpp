// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include <pipewright/nccl/options.hpp>
#include <pipewright/transport/transport.hpp>

namespace pipewright::inline v0::nccl::detail {

/// A channel that is not connected, with the id that its source has made for it.
struct opened_channel {
  channel_key key;
  ncclUniqueId id;
};

/// What a rank tells all others before they connect: its set-up, and the channels that it has opened and are not
/// connected.
struct roll_entry {
  std::array<std::int32_t, 3> set_up{};  // NCCL's version, shape_mode, whether one communicator
  ncclUniqueId of_all{};                 // rank 0's, where one communicator is to be made
  std::vector<opened_channel> opened;

  void for_each_part(auto&& visit) {
    visit(set_up);
    visit(of_all);
    visit(opened);
  }
  /// The id for a channel, or null where it is not opened.
  ncclUniqueId const* id_of(channel_key key) const {
    auto const found = std::ranges::find(opened, key, &opened_channel::key);
    return found == opened.end() ? nullptr : &found->id;
  }
  std::string spelled_set_up() const {
    return "NCCL " + std::to_string(set_up[0]) + ", " + (set_up[1] == static_cast<int>(fixed) ? "fixed" : "varying") +
           " shapes and " + (set_up[2] != 0 ? "one communicator" : "a communicator for each channel");
  }
};

/// The order in which channels are connected, on all ranks: neighbours (0, 1), (2, 3), .. before (1, 2), (3, 4), .., so
/// that many may connect at once.
inline bool connects_before(channel_key a, channel_key b) {
  auto const place = [](channel_key k) {
    return std::tuple(std::min(k.source, k.destination) % 2, k.source, k.destination, static_cast<int>(k.carries));
  };
  return place(a) < place(b);
}

/// Whether values can come round to where they started.
inline bool has_ring(std::vector<channel_key> channels) {
  for (;;) {
    auto const before = channels;
    std::erase_if(channels, [&](channel_key a) {
      return std::ranges::none_of(before, [&](channel_key b) { return b.destination == a.source; });
    });
    if (channels.size() == before.size()) return !channels.empty();
  }
}

/// All ranks' entries, on every rank, by way of rank 0 and the step channels; `last` becomes a ticket of this rank that
/// is complete.
template<transport Control>
std::vector<roll_entry> call_roll(Control& control, roll_entry mine, ticket& last) {
  auto const size = static_cast<std::size_t>(control.size());
  std::vector<roll_entry> all(size);
  auto const pass = [&](int from, int to, auto& value) {
    int const channel = control.open({from, to, traffic::step});
    last = control.rank() == from ? control.send(channel, message_of(value)) : control.post(channel, message_of(value));
    control.wait(last);
  };
  int const me = control.rank();
  if (me != 0) {
    pass(me, 0, mine);
    pass(0, me, all);
    return all;
  }
  all[0] = std::move(mine);
  for (int each = 1; each < control.size(); ++each) pass(each, 0, all[static_cast<std::size_t>(each)]);
  for (int each = 1; each < control.size(); ++each) {
    auto copy = all;
    pass(0, each, copy);
  }
  return all;
}

}  // namespace pipewright::inline v0::nccl::detail
