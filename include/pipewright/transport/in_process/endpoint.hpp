// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/transport/in_process/channel.hpp>
#include <pipewright/transport/in_process/options.hpp>
#include <pipewright/transport/in_process/world.hpp>
#include <pipewright/transport/transport.hpp>

namespace pipewright::inline v0::in_process {

namespace detail {
class runner;
using pipewright::detail::check_ends;
using pipewright::detail::gone_without;
using pipewright::detail::spelled;
using pipewright::detail::wrong_way;
}  // namespace detail

/// The ranks of one process and the channels between them. Most programs let run() make one; a test, or a thread that
/// drives several ranks, makes its own and an endpoint for each rank. Outlives its endpoints.
class world {
 public:
  /// Throws on fewer than one rank.
  explicit world(int ranks, options how = {}) : options_(std::move(how)), shared_(checked(ranks), options_.deadline) {}
  int size() const { return shared_.size(); }

 private:
  friend class endpoint;
  friend class detail::runner;

  static int checked(int ranks) {
    if (ranks < 1) throw error("an in-process world needs at least one rank, not " + std::to_string(ranks));
    return ranks;
  }
  detail::channel& open(channel_key key) {
    std::lock_guard lock(mutex_);
    for (auto& each : channels_)
      if (each.key() == key) return each;
    return channels_.emplace_back(key, shared_, edge_along(key));
  }
  detail::edge& edge_along(channel_key key) {
    for (auto& each : channels_)
      if (each.key().source == key.source && each.key().destination == key.destination) return each.along();
    return edges_.emplace_back(link_of(key), options_.mode);
  }
  link link_of(channel_key key) const {
    auto const over = options_.link_between ? options_.link_between(key.source, key.destination)
                                            : link{options_.latency, options_.bandwidth};
    if (!(over.latency >= 0) || !(over.bandwidth > 0))
      throw error("the link from " + detail::spelled_rank(key.source) + " to " + detail::spelled_rank(key.destination) +
                  " has a latency of " + detail::spelled_seconds(over.latency) + " and a bandwidth of " +
                  std::to_string(over.bandwidth) + " bytes/s; a latency is 0 or more, a bandwidth more than 0");
    return over;
  }

  options const options_;
  detail::world shared_;
  std::mutex mutex_;
  std::deque<detail::edge> edges_;  // both stay where they are
  std::deque<detail::channel> channels_;
};

/// A rank's end of everything, for threads of one process: the minimal model of `transport`. Values are swapped between
/// the slots of sender and receiver by whichever comes second; nothing is copied, and a steady state allocates nothing.
/// One thread at a time may use an endpoint.
class endpoint {
 public:
  endpoint(world& of, int rank) : world_(of), shared_(of.shared_), rank_(rank) {
    if (rank < 0 || rank >= of.size())
      throw error(detail::spelled_rank(rank) + " is not one of the " + std::to_string(of.size()) + " in-process ranks");
  }

  int rank() const { return rank_; }
  int size() const { return world_.size(); }

  /// A handle for post and send; opening a channel again gives the same one. Throws where this rank is at neither end,
  /// or a rank of the key does not exist or is at both.
  int open(channel_key key) {
    detail::check_ends(key, rank_, size());
    for (std::size_t i = 0; i < channels_.size(); ++i)
      if (channels_[i].which->key() == key) return static_cast<int>(i);
    channels_.push_back({&world_.open(key), key.source == rank_});
    return static_cast<int>(channels_.size()) - 1;
  }

  /// From now on a value may land in the slot. Throws on a channel that this rank sends on.
  ticket post(int channel, message slot) {
    shared_.throw_if_aborted();
    auto& chosen = at(channel);
    if (chosen.sends) throw error(detail::wrong_way(chosen.which->key(), rank_, "post"));
    return {channel, chosen.which->post(slot)};
  }
  /// From now on the value may leave the slot. Throws on a channel that this rank receives on.
  ticket send(int channel, message value) {
    shared_.throw_if_aborted();
    auto& chosen = at(channel);
    if (!chosen.sends) throw error(detail::wrong_way(chosen.which->key(), rank_, "send"));
    return {channel, chosen.which->send(value)};
  }

  /// Whether the transfer is complete. Throws after an abort, and where the other rank has returned without its part.
  bool poll(ticket of) {
    shared_.throw_if_aborted();
    auto& [channel, sends] = at(of.channel);
    if (channel->has_met(of.number)) return is_complete(of);
    auto const& peer = shared_.at(sends ? channel->key().destination : channel->key().source);
    if (peer.has_returned() && !channel->has_met(of.number)) fail_alone(of);
    return false;
  }
  /// Waits until the transfer is complete. Throws like poll, and by the deadline.
  void wait(ticket of) {
    shared_.throw_if_aborted();
    auto& [channel, sends] = at(of.channel);
    if (is_complete(of)) return;
    auto const limit = shared_.limit();
    if (!channel->has_met(of.number) && !channel->wait_to_meet(of.number, sends, limit)) {
      shared_.throw_if_aborted();
      fail_alone(of);
    }
    if (!sends && !channel->has_landed(of.number)) {
      auto const arrival = channel->arrival(of.number);
      shared_.at(rank_).wait_for_time(std::min(arrival, limit), [&] { return shared_.aborted(); });
      if (arrival > limit && !shared_.aborted()) fail_on_link(of);
    }
    shared_.throw_if_aborted();
  }
  /// Lets a wait or poll that fails say where its rank is ("rank 1, stage 4, ..") instead of its rank alone. Asked then only,
  /// in the rank's thread; empty: nothing more to say.
  void locate(std::function<std::string()> where) { where_ = std::move(where); }
  /// Nothing: whoever comes second moves the value.
  void progress() {}

  /// Throws on every rank, naming who said what, unless all ranks call it with one text; and by the deadline.
  void agree(std::string_view digest) { shared_.agree(rank_, digest); }
  /// Stops every rank: each wait, poll, send and post throws with the reason, the first one given. When it returns, no
  /// slot of this rank is touched any more.
  void abort(std::string_view why) noexcept { shared_.abort(why, rank_); }

 private:
  struct opened {
    detail::channel* which;
    bool sends;
  };
  opened& at(int channel) { return channels_[static_cast<std::size_t>(channel)]; }

  bool is_complete(ticket of) {
    auto& [channel, sends] = at(of.channel);
    return sends ? channel->has_met(of.number) : channel->has_landed(of.number);
  }

  std::string waited() const { return located() + " waited " + detail::spelled_seconds(shared_.deadline()) + " for "; }
  std::string located() const { return where_ ? where_() + ":" : detail::spelled_rank(rank_); }
  [[noreturn]] void fail_alone(ticket of) {
    auto const& [channel, sends] = at(of.channel);
    auto const key = channel->key();
    auto const peer = sends ? key.destination : key.source;
    if (shared_.at(peer).has_returned()) shared_.fail(detail::gone_without(located(), key, of.number, peer), rank_);
    shared_.fail(waited() + detail::spelled(key, of.number) + ", which " + detail::spelled_rank(peer) + " has not " +
                     (sends ? "posted" : "sent"),
                 rank_);
  }
  [[noreturn]] void fail_on_link(ticket of) {
    shared_.fail(waited() + detail::spelled(at(of.channel).which->key(), of.number) +
                     ", which its slow link still holds; set a longer deadline",
                 rank_);
  }

  world& world_;
  detail::world& shared_;
  int const rank_;
  std::vector<opened> channels_;
  std::function<std::string()> where_;
};

static_assert(transport<endpoint>);

}  // namespace pipewright::inline v0::in_process
