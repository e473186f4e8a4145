// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>

#include <pipewright/transport/in_process/options.hpp>
#include <pipewright/transport/in_process/world.hpp>
#include <pipewright/transport/transport.hpp>

namespace pipewright::inline v0::in_process::detail {

/// Records numbered 0, 1, 2, ... of which the recent ones are kept. One thread appends; another may read a record that
/// it learnt about by way of an atomic. Where a record that is still needed would be overwritten, a ring twice as large
/// is chained on; so a steady state allocates nothing.
template<class Record> class numbered_ring {
  struct ring {
    std::uint64_t first;  // number of the first record that is here and not in a smaller ring
    std::uint64_t size;   // a power of two
    std::unique_ptr<Record[]> records = std::make_unique<Record[]>(size);
    std::unique_ptr<ring> larger_one = {};
    std::atomic<ring*> larger = nullptr;
  };

 public:
  /// Place for the record of that number; of the earlier ones those from `needed` on are kept.
  Record& append(std::uint64_t number, std::uint64_t needed) {
    if (number - std::max(needed, newest_->first) >= newest_->size) {
      newest_->larger_one = std::make_unique<ring>(number, 2 * newest_->size);
      newest_->larger.store(newest_->larger_one.get(), std::memory_order_release);
      newest_ = newest_->larger_one.get();
    }
    return newest_->records[number & (newest_->size - 1)];
  }
  Record& at(std::uint64_t number) {
    auto* here = &oldest_;
    for (auto* next = here; (next = here->larger.load(std::memory_order_acquire)) && next->first <= number;)
      here = next;
    return here->records[number & (here->size - 1)];
  }

 private:
  ring oldest_{0, 16};
  ring* newest_ = &oldest_;
};

/// What transfers between two ranks have in common, whatever their traffic. On a cache line of its own: other ranks use its
/// neighbours.
class alignas(64) edge {
 public:
  edge(link over, transfer_mode mode) : over_(over), mode_(mode) {}
  bool takes_time() const { return over_.latency > 0 || over_.bandwidth < std::numeric_limits<double>::infinity(); }
  bool counts_from_send() const { return mode_ == buffered && takes_time(); }

  /// When a transfer that sets out now lands.
  clock::time_point arrival(std::size_t bytes) {
    auto const occupied = seconds(static_cast<double>(bytes) / over_.bandwidth).count();
    auto const now = clock::now().time_since_epoch().count();
    for (auto free = free_.load(std::memory_order_relaxed);;)
      if (auto const end = std::max(now, free) + occupied;
          free_.compare_exchange_weak(free, end, std::memory_order_relaxed))
        return clock::time_point(clock::duration(end)) + seconds(over_.latency);
  }

 private:
  link const over_;
  transfer_mode const mode_;
  std::atomic<clock::rep> free_ = 0;  // when the transfers before have left
};

/// A directed first-in-first-out channel between two threads. The k-th send and the k-th post meet: whichever comes
/// second exchanges the values. Neither waits for the other here.
class channel {
  struct half {
    void* object = nullptr;
    message_type const* type = nullptr;
    clock::time_point arrival = {};
  };

 public:
  channel(channel_key key, world& everybody, edge& along)
      : key_(key),
        world_(everybody),
        edge_(along),
        source_(everybody.at(key.source)),
        destination_(everybody.at(key.destination)) {}

  channel_key key() const { return key_; }
  edge& along() const { return edge_; }

  /// Called by the source's thread only; returns the transfer's number.
  std::uint64_t send(message value) {
    auto const number = source_.next++;
    auto& mine = source_.halves.append(number, matched_.load(std::memory_order_acquire));
    mine = {value.object, value.type, {}};
    if (edge_.counts_from_send()) mine.arrival = edge_.arrival(value.type->bytes(value.object));
    if (balance_.fetch_add(1) < 0) exchange(number, mine, destination_.halves.at(number), source_, destination_);
    return number;
  }

  /// Called by the destination's thread only; returns the transfer's number.
  std::uint64_t post(message slot) {
    auto const number = destination_.next++;
    while (destination_.landed < number && has_landed(destination_.landed)) ++destination_.landed;
    auto& mine = destination_.halves.append(number, destination_.landed);
    mine = {slot.object, slot.type, {}};
    if (balance_.fetch_sub(1) > 0) exchange(number, source_.halves.at(number), mine, destination_, source_);
    return number;
  }

  /// Whether the values of that transfer have been exchanged.
  bool has_met(std::uint64_t number) const { return matched_.load(std::memory_order_seq_cst) > number; }

  /// For the destination: when a transfer that has met lands; the past where it takes no time.
  clock::time_point arrival(std::uint64_t number) {
    return edge_.takes_time() && number >= destination_.landed ? destination_.halves.at(number).arrival
                                                               : clock::time_point::min();
  }

  /// For the destination: whether the value may be used.
  bool has_landed(std::uint64_t number) {
    if (!has_met(number)) return false;
    auto const due = arrival(number);
    return due == clock::time_point::min() || clock::now() >= due;
  }

  /// Waits until that transfer has met, as the source or as the destination.
  bool wait_to_meet(std::uint64_t number, bool as_source, clock::time_point limit) {
    auto& mine = as_source ? source_ : destination_;
    auto& peer = as_source ? destination_ : source_;
    mine.awaits.store(number + 1, std::memory_order_seq_cst);
    mine.owner.wait_until(limit, [&] { return has_met(number) || world_.aborted() || peer.owner.has_returned(); });
    mine.awaits.store(0, std::memory_order_relaxed);
    return has_met(number);
  }

 private:
  struct alignas(64) end {
    explicit end(rank_state& who) : owner(who) {}
    rank_state& owner;
    numbered_ring<half> halves;
    alignas(64) std::atomic<std::uint64_t> awaits =
        0;                               // the count of matched transfers that it may be asleep for; or 0
    alignas(64) std::uint64_t next = 0;  // number of its next transfer
    std::uint64_t landed = 0;            // the destination's: all before have
  };

  void exchange(std::uint64_t number, half& sent, half& posted, end& mine, end& peer) {
    if (sent.type != posted.type)
      world_.fail(pipewright::detail::unlike_types(key_, number, sent.type->name, posted.type->name), world::nobody);
    world_.exchanging(mine.owner, [&] {
      if (edge_.takes_time())
        posted.arrival = edge_.counts_from_send() ? sent.arrival : edge_.arrival(sent.type->bytes(sent.object));
      sent.type->exchange(posted.object, sent.object);
    });
    matched_.store(number + 1, std::memory_order_seq_cst);
    if (peer.awaits.load(std::memory_order_seq_cst) == number + 1) peer.owner.wake();
  }

  channel_key const key_;
  world& world_;
  edge& edge_;
  // On cache lines of their own: what both threads write, what one writes and the other spins on, what is one's own.
  alignas(64) std::atomic<std::int64_t> balance_ = 0;   // sends less posts; says who comes second
  alignas(64) std::atomic<std::uint64_t> matched_ = 0;  // transfers exchanged, in order
  end source_, destination_;
};

}  // namespace pipewright::inline v0::in_process::detail
