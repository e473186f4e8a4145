// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <pipewright/transport/sentences.hpp>
#include <pipewright/transport/transport.hpp>
#include <pipewright/transport/wire/channel.hpp>
#include <pipewright/transport/wire/control.hpp>
#include <pipewright/transport/wire/pause.hpp>
#include <pipewright/transport/wire/transfer.hpp>

namespace pipewright::inline v0::wire {

/// How an endpoint waits.
struct options {
  double deadline = 60;  ///< seconds that a wait lasts at most; 0 or less: for ever
  /// Where a handler of signals (SIGTERM) says that it was called: a wait then fails at once and says what it was for. A launcher that
  /// loses a rank ends the others so, a second or so before it kills them.
  std::atomic<bool> const* told_to_end = nullptr;
};

/// A rank's end of everything over a link between processes: the transport of MPI and Gloo. Values of any boundary type
/// travel with their shapes, each channel first-in, first-out; a transfer owns the value on its way, so a slot is only
/// touched by its own thread. One thread at a time uses an endpoint. The link outlives it.
template<link Link> class endpoint {
  using clock = std::chrono::steady_clock;

 public:
  explicit endpoint(Link& over, options how = {}) : link_{over}, how_{how}, control_{over} {
    if (link_.wants_a_thread() || tells_news)
      mover_ = std::jthread([this](std::stop_token const& stop) { move_in_background(stop); });
  }
  endpoint(endpoint const&) = delete;
  endpoint& operator=(endpoint const&) = delete;
  /// Waits until what was sent is through, by the deadline, and tells the others that this rank is done. An exception on
  /// its way stops all ranks.
  ~endpoint() {
    if (std::uncaught_exceptions() > exceptions_before_) abort("its function ended with an exception");
    try {
      auto const limit = limit_of(how_.deadline);
      for (pause_ = {}; !is_stopped(); rest()) {
        std::lock_guard const lock(mutex_);
        if (!fault_.empty()) stop(fault_, rank());
        else move();
        if (!sends_anything() || clock::now() > limit) break;
      }
    } catch (std::exception const&) {  // the link is broken; nobody is left to tell
    }
    if (mover_.joinable()) {
      mover_.request_stop();
      work_.notify_all();
      mover_.join();
    }
    give_up_transfers();
    control_.leave([this](int peer) { return account_with(peer); });
  }

  int rank() const { return link_.rank(); }
  int size() const { return link_.size(); }

  /// A handle for post and send; opening a channel again gives the same one. Throws where this rank is at neither end, or a
  /// rank of the key does not exist or is at both.
  int open(channel_key key) {
    std::lock_guard const lock(mutex_);
    pipewright::detail::check_ends(key, rank(), size());
    for (std::size_t i = 0; i < channels_.size(); ++i)
      if (channels_[i]->key == key) return static_cast<int>(i);
    channels_.push_back(std::make_unique<channel>());
    channels_.back()->key = key;
    channels_.back()->sends = key.source == rank();
    return static_cast<int>(channels_.size()) - 1;
  }

  /// From now on a value may land in the slot, when this rank polls or waits. Throws on a channel that this rank sends on.
  ticket post(int handle, message slot) {
    std::lock_guard const lock(mutex_);
    throw_if_aborted();
    channel& c = at(handle);
    if (c.sends) throw error(pipewright::detail::wrong_way(c.key, rank(), "post"));
    transfer& made = c.append();
    made.await(c.pool(*slot.type), slot);
    or_say_where([&] { advance(c); });
    wake_mover();
    return {handle, c.end() - 1};
  }
  /// The value leaves the slot at once, but its sender may rely on it only once the transfer is complete. Throws on a
  /// channel that this rank receives on.
  ticket send(int handle, message value) {
    std::lock_guard const lock(mutex_);
    throw_if_aborted();
    channel& c = at(handle);
    if (!c.sends) throw error(pipewright::detail::wrong_way(c.key, rank(), "send"));
    or_say_where([&] {
      transfer& made = c.append();
      std::size_t& room = c.room(c.end() - 1);
      made.start_sending(link_, c.peer(), c.tag(), c.pool(*value.type), value, room);
      room = made.room_for_next();
      advance(c);
    });
    wake_mover();
    return {handle, c.end() - 1};
  }

  /// Whether the transfer is complete. Throws after an abort, and where the other rank has ended without its part.
  bool poll(ticket of) {
    std::lock_guard const lock(mutex_);
    return or_say_where([&] { return is_complete(of); });
  }
  /// Waits until the transfer is complete. Throws like poll, and by the deadline.
  void wait(ticket of) {
    auto const limit = limit_of(how_.deadline);
    for (pause_ = {};; rest()) {
      std::lock_guard const lock(mutex_);
      if (or_say_where([&] { return is_complete(of); })) return;
      if (is_told_to_end()) fail_ended(of);
      if (clock::now() > limit) fail_late(of);
    }
  }
  /// Lets a wait or poll that fails say where its rank is, instead of its rank alone. Asked then only.
  void locate(std::function<std::string()> where) { where_ = std::move(where); }
  /// See transport.
  void computing(bool begins) noexcept requires requires(Link& l) { l.computing(begins); } { link_.computing(begins); }
  /// Moves what can be moved. Throws after an abort.
  void progress() {
    std::lock_guard const lock(mutex_);
    throw_if_aborted();
    or_say_where([&] { move(); });
    throw_if_aborted();
  }

  /// Throws on every rank, naming who said what, unless all ranks call it with one text; and by the deadline.
  void agree(std::string_view digest) {
    std::unique_lock lock(mutex_);
    throw_if_aborted();
    // Others wait a little longer than rank 0, who knows whom all wait for.
    auto const limit = limit_of(rank() == 0 ? how_.deadline : how_.deadline * 1.25 + 0.1);
    or_say_where([&] { control_.say(digest); });
    for (pause_ = {};;) {
      or_say_where([&] { move(); });
      throw_if_aborted();
      if (auto const verdict = control_.verdict()) {
        if (!verdict->empty()) fail(*verdict, -1);
        return;
      }
      if (std::string const gone = control_.gone_without_a_word(); !gone.empty())
        fail(located() + " needs all ranks to agree on what to run, but " + gone + " ended without it");
      if (is_told_to_end())
        fail(located() + " was told to end by a signal while it waited for " + control_.silent() +
             " to agree on what to run");
      if (clock::now() > limit)
        fail(located() + " waited for " + control_.silent() + " to agree on what to run, for " +
             pipewright::detail::spelled_seconds(how_.deadline));
      lock.unlock();
      rest();
      lock.lock();
    }
  }
  /// Stops every rank: each wait, poll, send and post throws with the reason, the first one given.
  void abort(std::string_view why) noexcept {
    std::lock_guard const lock(mutex_);
    stop(why, rank());
  }

 private:
  using transfer = detail::transfer<Link>;
  using channel = detail::channel<Link>;
  static constexpr bool tells_news = requires(Link& l) { l.await_news(std::uint64_t{}, 0.0); };

  channel& at(int handle) { return *channels_[static_cast<std::size_t>(handle)]; }

  static clock::time_point limit_of(double deadline) {
    if (deadline <= 0) return clock::time_point::max();
    return clock::now() +
           std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(std::min(deadline, 1e9)));
  }

  // ---- moving ------------------------------------------------------------------------------------------------------
  /// Lets a channel's transfers go as far as they can; complete sends are dropped, what came waits for its owner.
  void advance(channel& c) {
    if (c.sends) {
      for (auto& each : c.live) {
        if (!each.is_through() && !each.advance(link_, c.peer(), c.tag(), true, 0, [](auto&&) {})) break;
      }
      while (!c.live.empty() && c.live.front().is_through()) {
        c.live.front().finish();
        c.drop_first();
      }
      return;
    }
    int awaited = 0;  // frames that have not come
    std::uint64_t number = c.first;
    for (auto& each : c.live) {
      if (awaited == channel::frames_ahead) break;
      if (!each.is_through())
        each.advance(link_, c.peer(), c.tag(), awaited == 0, c.room(number),
                     [&](std::string const& sent) { fail_type(c, number, each, sent); });
      if (each.is_past_its_head()) {
        c.room(number) = each.room_for_next();
        c.value_follows = each.value_follows();
      } else {
        ++awaited;
      }
      ++number;
    }
  }
  void move() {
    for (auto& c : channels_)
      if (!c->live.empty()) advance(*c);
    control_.move();
    if (!stopped_by_.has_value())
      if (auto const reason = control_.stopped()) take_stop(*reason);
  }
  bool sends_anything() const {
    for (auto const& c : channels_)
      if (c->sends && !c->live.empty() && !control_.is_gone(c->peer())) return true;
    return false;
  }
  /// Whether a frame is to come whose value, like the one before it on its channel, comes after it: that must be asked for.
  bool awaits_what_follows() const {
    for (auto const& c : channels_)
      if (c->value_follows && !c->live.empty() && !c->live.back().is_past_its_head()) return true;
    return false;
  }
  bool moves_anything() const {
    for (auto const& c : channels_)
      for (auto const& each : c->live)
        if (!each.is_through()) return true;
    return false;
  }
  bool is_complete(ticket of) {
    throw_if_aborted(of);
    channel& c = at(of.channel);
    if (of.number < c.first) return true;
    advance(c);
    if (!c.sends) deliver(c, of.number);
    if (of.number < c.first) return true;
    if (++polls_ % 16 == 0) {  // news of other ranks
      move();
      throw_if_aborted(of);
      advance(c);
      if (!c.sends) deliver(c, of.number);
      if (of.number < c.first) return true;
      if (control_.is_gone(c.peer()) && of.number >= done_by_other(c) && (c.sends || c.awaits_a_head())) fail_gone(of);
    }
    return false;
  }
  /// How many of a channel's transfers the other rank, which is gone, has brought to their end.
  std::uint64_t done_by_other(channel const& c) const {
    auto const& theirs = control_.account_of(c.peer());
    return (c.sends ? theirs.received : theirs.sent)[static_cast<std::size_t>(c.key.carries)];
  }
  detail::account account_with(int peer) const {
    detail::account made;
    for (auto const& c : channels_)
      if (c->peer() == peer)
        (c->sends ? made.sent : made.received)[static_cast<std::size_t>(c->key.carries)] = c->through();
    return made;
  }
  /// Hands over what has come, in order, up to a transfer.
  void deliver(channel& c, std::uint64_t number) {
    while (c.first <= number && !c.live.empty() && c.live.front().is_through()) {
      c.live.front().deliver();
      c.drop_first();
    }
  }

  /// Where the link moves bytes by itself, only those that follow a frame are to be asked for.
  bool mover_has_work() const { return tells_news ? awaits_what_follows() : moves_anything(); }
  /// A thread that is woken for nothing takes a core from one that computes.
  void wake_mover() {
    if (mover_.joinable() && mover_has_work()) work_.notify_one();
  }
  /// Moves bytes while the rank computes; at rest where it has nothing to do.
  void move_in_background(std::stop_token const& stop) {
    auto nap = std::chrono::microseconds(20);
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      bool const may_move = !stopped_by_.has_value() && fault_.empty();
      bool const has_work = may_move && mover_has_work();
      if (!has_work) {
        work_.wait_for(lock, std::chrono::milliseconds(50));
        nap = std::chrono::microseconds(20);
      }
      try {
        if (may_move && (has_work || !tells_news)) move();
      } catch (std::exception const& e) {  // left to the owner's next call, which knows where its rank is
        fault_ = e.what();
      }
      if (tells_news && !has_work) continue;
      lock.unlock();
      if constexpr (tells_news) {
        seen = link_.await_news(seen, 0.05);
      } else {
        std::this_thread::sleep_for(nap);
        nap = std::min(2 * nap, std::chrono::microseconds(500));
      }
      lock.lock();
    }
  }
  void rest() {
    if (pause_.rest(link_)) polls_ |= 15;  // by now there may be news of other ranks
  }

  bool is_told_to_end() const { return how_.told_to_end != nullptr && how_.told_to_end->load(); }

  // ---- stopping ----------------------------------------------------------------------------------------------------
  bool is_stopped() {
    std::lock_guard const lock(mutex_);
    return stopped_by_.has_value();
  }
  void throw_if_aborted() const {
    if (stopped_by_.has_value()) throw error(reason_);
  }
  /// Of a chain of waits any may end first. The last of the chain names the culprit, so that each says what it waits for.
  void throw_if_aborted(ticket of) {
    if (is_told_to_stop_ && of.number >= at(of.channel).through())
      throw error("needs " + missing(of) + "; all were stopped: " + reason_);
    throw_if_aborted();
  }
  void stop(std::string_view why, int by) noexcept {
    if (stopped_by_.has_value()) return;
    stopped_by_ = by;
    try {
      reason_ = pipewright::detail::with_rank(by, why);
    } catch (...) {
      reason_.clear();  // there is no memory to say why
    }
    control_.stop_all(reason_);
    give_up_transfers();
    note_stop();
  }
  void take_stop(std::string const& reason) noexcept {
    stopped_by_ = -1;
    is_told_to_stop_ = true;
    try {
      reason_ = reason;
    } catch (...) {  // there is no memory to say why
    }
    give_up_transfers();
    note_stop();
  }
  void note_stop() noexcept {
    if constexpr (requires { link_.note_stop(); }) link_.note_stop();
  }
  void give_up_transfers() noexcept {
    for (auto& c : channels_) {
      for (auto& each : c->live) each.give_up(link_);
    }
  }
  [[noreturn]] void fail(std::string const& why, int by) {
    stop(why, by);
    throw error(reason_);
  }
  [[noreturn]] void fail(std::string const& why) { fail(why, rank()); }

  /// What a link cannot do stops all ranks, and says where this one was. Of the owner's thread only, which locates.
  auto or_say_where(auto&& work) {
    try {
      if (!fault_.empty()) throw error(fault_);
      return work();
    } catch (std::exception const& e) {
      if (stopped_by_.has_value()) throw;
      fail(located() + (where_ ? " " : ": ") + e.what());
    }
  }

  // ---- sentences ---------------------------------------------------------------------------------------------------
  std::string located() const { return where_ ? where_() + ":" : pipewright::detail::spelled_rank(rank()); }
  std::string missing(ticket of) {
    channel const& c = at(of.channel);
    auto const at = of.number - c.first;
    bool const has_begun = !c.sends && at < c.live.size() && c.live[at].is_past_its_head();
    return pipewright::detail::spelled(c.key, of.number) + ", which " + pipewright::detail::spelled_rank(c.peer()) +
           " has not " +
           (c.sends     ? "posted"
            : has_begun ? "sent to its end"
                        : "sent");
  }
  [[noreturn]] void fail_late(ticket of) {
    fail(located() + " waited " + pipewright::detail::spelled_seconds(how_.deadline) + " for " + missing(of));
  }
  [[noreturn]] void fail_ended(ticket of) {
    fail(located() + " was told to end by a signal while it waited for " + missing(of));
  }
  [[noreturn]] void fail_gone(ticket of) {
    channel const& c = at(of.channel);
    fail(pipewright::detail::gone_without(located(), c.key, of.number, c.peer()));
  }
  [[noreturn]] void fail_type(channel const& c, std::uint64_t number, transfer const& of, std::string const& sent) {
    fail(pipewright::detail::unlike_types(c.key, number, sent, of.type().name), -1);
  }

  Link& link_;
  options how_;
  int const exceptions_before_ = std::uncaught_exceptions();
  std::mutex mutex_;  // of all below but where_ and pause_
  detail::control<Link> control_;
  std::vector<std::unique_ptr<channel>> channels_;
  std::optional<int> stopped_by_;
  bool is_told_to_stop_ = false;  // by another rank
  std::string reason_;
  std::string fault_;  // what the mover met
  unsigned polls_ = 0;
  std::condition_variable work_;  // for the mover
  std::function<std::string()> where_;
  detail::pause pause_;
  std::jthread mover_;
};

}  // namespace pipewright::inline v0::wire
