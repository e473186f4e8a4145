// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/cuda/event.hpp>
#include <pipewright/nccl/lane.hpp>
#include <pipewright/nccl/manifest.hpp>
#include <pipewright/transport/sentences.hpp>
#include <pipewright/transport/transport.hpp>

namespace pipewright::inline v0::nccl::detail {

/// Raises a flag for a while.
struct raised {
  explicit raised(bool& flag) : flag{flag} { flag = true; }
  raised(raised const&) = delete;
  raised& operator=(raised const&) = delete;
  ~raised() { flag = false; }
  bool& flag;
};

/// One send or receive. Its slot's last use before it and its own end are points on the device.
struct transfer {
  message value;
  manifest told;                        // the control transport's from when it is sent until it has come
  std::optional<ticket> telling;        // of the manifest, until that is through
  std::vector<std::uint8_t> on_device;  // by part
  cuda::event last_use, end;
  bool is_ready = false;   // a receive: the slot has its shape
  bool is_queued = false;  // on the device, if anything of it goes there
  bool uses_device = false;
  std::uint64_t held = 0;  // the rank's stream waits for its end; the how-many-th of those

  void begin(message with) {
    value = with;
    telling.reset();
    is_ready = is_queued = uses_device = false;
    held = 0;
  }
  bool is_over() const { return is_queued && (!uses_device || end.is_reached()); }
};

/// A rank's end of a channel: its transfers by number, those that are over dropped.
struct channel {
  int handle = -1;
  channel_key key;
  bool sends = false;
  lane* over = nullptr;            // once connected
  std::optional<ncclUniqueId> id;  // the source's, for its communicator
  std::optional<manifest> first_told;
  bool is_receiving = false;            // which may wait for the device, and look after all channels meanwhile
  std::uint64_t first = 0, queued = 0;  // numbers of the oldest that is kept, and of the next to be queued
  std::deque<std::unique_ptr<transfer>> kept;
  std::vector<std::unique_ptr<transfer>> spare;

  int peer() const { return sends ? key.destination : key.source; }
  /// The peer's number, and this rank's, in the lane's communicator.
  int peer_in_lane() const { return over->is_shared() ? peer() : sends ? 1 : 0; }
  std::uint64_t end() const { return first + kept.size(); }
  transfer& at(std::uint64_t number) { return *kept[static_cast<std::size_t>(number - first)]; }

  transfer& append(message value) {
    if (spare.empty()) spare.push_back(std::make_unique<transfer>());
    kept.push_back(std::move(spare.back()));
    spare.pop_back();
    kept.back()->begin(value);
    return *kept.back();
  }
  void drop_first() {
    spare.push_back(std::move(kept.front()));
    kept.pop_front();
    ++first;
  }
};

/// A rank's channels, by handle. Those whose values may lie on the device are NCCL's; of the others only the key is known here.
class channels {
 public:
  explicit channels(int rank) : rank_{rank} {}

  /// Takes note of one that the control transport has opened.
  void add(int handle, channel_key key) {
    auto const place = static_cast<std::size_t>(handle);
    if (keys_.size() <= place) {
      keys_.resize(place + 1);
      all_.resize(place + 1);
    }
    keys_[place] = key;
    if (key.carries != traffic::activation && key.carries != traffic::gradient) return;
    if (all_[place] != nullptr) return;
    all_[place] = std::make_unique<channel>();
    all_[place]->handle = handle;
    all_[place]->key = key;
    all_[place]->sends = key.source == rank_;
  }
  /// Null where all goes over the control transport.
  channel* at(int handle) {
    auto const place = static_cast<std::size_t>(handle);
    return place < all_.size() ? all_[place].get() : nullptr;
  }
  /// NCCL's, in the order of their handles.
  void for_each(auto&& visit) {
    for (auto& c : all_)
      if (c != nullptr) visit(*c);
  }
  /// What a wait for a transfer lacks.
  std::string missing(ticket of) const {
    channel_key const key = keys_[static_cast<std::size_t>(of.channel)];
    bool const sends = key.source == rank_;
    return pipewright::detail::spelled(key, of.number) + ", which " +
           pipewright::detail::spelled_rank(sends ? key.destination : key.source) + " has not " +
           (sends ? "received" : "sent");
  }

 private:
  int const rank_;
  std::vector<channel_key> keys_;
  std::vector<std::unique_ptr<channel>> all_;
};

}  // namespace pipewright::inline v0::nccl::detail
