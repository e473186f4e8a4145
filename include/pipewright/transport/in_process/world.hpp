// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the ranks of one process share besides channels: their states, abort, and the agreement at start-up.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <pipewright/error.hpp>
#include <pipewright/transport/in_process/waiting.hpp>
#include <pipewright/transport/sentences.hpp>

namespace pipewright::inline v0::in_process::detail {

using pipewright::detail::spelled_rank;
using pipewright::detail::spelled_seconds;

/// What others know of a rank.
class alignas(64) rank_state : public sleeper {
 public:
  using sleeper::sleeper;
  bool has_returned() const { return returned_.load(); }

 private:
  friend class world;
  bool asked_ = false;  // whether it waits to agree, and on what; both under the world's mutex
  std::string digest_;
  std::atomic<bool> returned_ = false;                // its function has ended; it will send and post no more
  alignas(64) std::atomic<bool> exchanging_ = false;  // it may be writing into another rank's slot
};

class world {
 public:
  world(int ranks, double deadline) : deadline_(deadline), crowd_(ranks) {
    for (int rank = 0; rank < ranks; ++rank) ranks_.emplace_back(crowd_);
  }

  int size() const { return static_cast<int>(ranks_.size()); }
  rank_state& at(int rank) { return ranks_[static_cast<std::size_t>(rank)]; }
  rank_state const& at(int rank) const { return ranks_[static_cast<std::size_t>(rank)]; }
  double deadline() const { return deadline_; }
  /// The end of a wait that begins now.
  clock::time_point limit() const { return deadline_ > 0 ? clock::now() + seconds(deadline_) : never; }

  bool aborted() const { return aborted_.load(); }
  /// Of an aborted world; neither changes any more.
  std::string const& reason() const { return reason_; }
  int aborted_by() const { return aborted_by_; }
  void throw_if_aborted() const {
    if (!aborted_.load(std::memory_order_acquire)) return;
    wait_for_exchanges();
    throw error(reason_);
  }

  /// Stops every rank; the first reason stands. When it returns, no rank touches another's slots any more.
  void abort(std::string_view why, int by) noexcept {
    {
      std::lock_guard lock(mutex_);
      if (!aborted_) {
        aborted_by_ = by;
        try {
          reason_ = pipewright::detail::with_rank(by, why);
        } catch (...) {
          reason_.clear();  // there is no memory to say why
        }
        aborted_ = true;
      }
    }
    tell_all();
    wait_for_exchanges();
  }
  [[noreturn]] void fail(std::string_view why, int rank) {
    abort(why, rank);
    throw error(reason_);
  }

  /// Calls exchange(), which writes into another rank's slot. Throws if the world was aborted: slots may be gone then.
  template<class Exchange> void exchanging(rank_state& who, Exchange exchange) {
    struct lowered_at_end {
      std::atomic<bool>& flag;
      ~lowered_at_end() { flag.store(false, std::memory_order_release); }
    };
    {
      lowered_at_end raised{who.exchanging_};
      who.exchanging_ = true;  // sequentially consistent, as aborted_: this sees the abort, or the abort waits for this
      if (!aborted()) return exchange();
    }
    throw_if_aborted();
  }

  /// Returns when every rank has called it with one text; else fails with a sentence of who said what.
  void agree(int rank, std::string_view digest) {
    throw_if_aborted();
    auto const round = rounds_.load();
    std::string fault;
    if (arrives_last(rank, digest, fault)) {
      if (!fault.empty()) fail(fault, nobody);
      ++rounds_;
      tell_all();
    }
    auto const settled = [&] { return rounds_ != round || aborted(); };
    at(rank).wait_until(limit(), [&] { return settled() || someone_has_returned(); });
    if (!settled()) fail(absent(rank), rank);
    throw_if_aborted();
  }

  /// The rank's function has ended.
  void leave(int rank) {
    {
      std::lock_guard lock(mutex_);  // so that returned() stands still for its holder
      at(rank).returned_ = true;
    }
    crowd_.left();
    tell_all();
  }
  int returned() {
    int count = 0;
    for (auto& each : ranks_) count += each.has_returned();
    return count;
  }

  /// For one who watches the ranks: `changed` is signalled after abort() and leave().
  std::mutex& mutex() { return mutex_; }
  std::condition_variable& changed() { return changed_; }

  /// Those with chosen(rank_state), in words.
  template<class Chosen> std::string ranks_that(Chosen chosen) const {
    return pipewright::detail::ranks_that(size(), [&](int rank) { return chosen(at(rank)); });
  }

  static constexpr int nobody = -1;

 private:
  void tell_all() noexcept {
    for (auto& each : ranks_) each.wake();
    changed_.notify_all();
  }
  void wait_for_exchanges() const {
    for (auto& each : ranks_)
      while (each.exchanging_) std::this_thread::yield();
  }
  bool someone_has_returned() { return returned() > 0; }

  bool arrives_last(int rank, std::string_view digest, std::string& fault) {
    std::lock_guard lock(mutex_);
    at(rank).digest_ = digest;
    at(rank).asked_ = true;
    for (auto& each : ranks_)
      if (!each.asked_) return false;
    for (auto& each : ranks_) each.asked_ = false;
    fault = pipewright::detail::disagreement(size(), [this](int each) -> std::string_view { return at(each).digest_; });
    return true;
  }
  std::string absent(int rank) {
    std::lock_guard lock(mutex_);
    if (someone_has_returned())
      return spelled_rank(rank) + " needs all ranks to agree on what to run, but " +
             ranks_that([](auto& each) { return each.has_returned(); }) + " returned without it";
    return spelled_rank(rank) + " waited for " + ranks_that([](auto& each) { return !each.asked_; }) +
           " to agree on what to run, for " + spelled_seconds(deadline_);
  }

  double const deadline_;
  crowd crowd_;
  std::deque<rank_state> ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> aborted_ = false;
  std::string reason_;
  int aborted_by_ = nobody;
  std::atomic<std::uint64_t> rounds_ = 0;
};

}  // namespace pipewright::inline v0::in_process::detail
