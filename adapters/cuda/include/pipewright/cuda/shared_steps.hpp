// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <pipewright/cuda/graph_cache.hpp>
#include <pipewright/cuda/notebook.hpp>
#include <pipewright/cuda/queue.hpp>

namespace pipewright::inline v0::cuda {

/// The steps of all ranks of a device, threads of one process, whose work is queued together: a graph has what all of them do. The
/// ranks write their work down in one notebook; when each of them waits, for the device or for another rank's host, what there is by
/// then is queued. Where they wait does not depend on which thread is faster, so that the lists of like steps are equal.
///
/// For one step_graph of each rank, which it outlives.
class shared_steps {
  using clock = std::chrono::steady_clock;

 public:
  /// Throws error where a rank waits longer than the deadline for the others to begin a step; 0: never.
  explicit shared_steps(int ranks = 1, double deadline = 0)
      : deadline_{deadline}, ranks_(static_cast<std::size_t>(ranks)) {}
  shared_steps(shared_steps const&) = delete;
  shared_steps& operator=(shared_steps const&) = delete;

  /// Once the ranks' steps are done.
  graph_cache const& graphs() const { return graphs_; }

 private:
  friend class step_graph;

  enum class state : std::uint8_t { away, running, waits_for_device, waits_for_rank };
  struct rank_state {
    state now = state::away;
    std::uint64_t told = 0;   // by others, when it began to wait for one of them
    std::uint64_t begun = 0;  // steps
    bool is_gone = false;
  };

  int checked(int rank) const {
    if (rank >= 0 && static_cast<std::size_t>(rank) < ranks_.size()) return rank;
    throw error("pipewright: the steps of " + std::to_string(ranks_.size()) + " ranks are not those of rank " +
                std::to_string(rank) +
                "; make shared_steps for all ranks of the device, and contexts with their numbers");
  }
  template<class Answer> auto told_of(Answer (graph_cache::*question)() const) const {
    std::lock_guard const lock(mutex_);
    return (graphs_.*question)();
  }
  /// Returns when all ranks have begun: whether their steps are to be written down, for all the same. False where one has gone.
  bool begin(int rank) {
    std::unique_lock lock(mutex_);
    auto const mine = ++at(rank).begun;
    auto const has_begun = [&](rank_state const& each) { return each.begun >= mine; };
    if (std::ranges::all_of(ranks_, has_begun)) {
      if (notes_ == nullptr) notes_ = std::make_shared<notebook>();
      writes_ = graphs_.why_not().empty();
      if (!writes_) graphs_.clear();
      for (auto& each : ranks_) each.now = writes_ ? state::running : state::away;
      all_begun_ = mine;
    }
    changed_.notify_all();
    auto const is_decided = [&] { return all_begun_ >= mine || std::ranges::any_of(ranks_, &rank_state::is_gone); };
    if (deadline_ <= 0) changed_.wait(lock, is_decided);
    else if (!changed_.wait_for(lock, std::chrono::duration<double>(deadline_), is_decided))
      throw error("pipewright: rank " + std::to_string(rank) + " waited for rank " +
                  std::to_string(std::ranges::find_if_not(ranks_, has_begun) - ranks_.begin()) +
                  " to begin its step; all ranks of a device run the same steps as graphs");
    return all_begun_ >= mine && writes_;
  }
  /// Returns when what the rank has written down is queued.
  void hand_over(int rank) {
    std::unique_lock lock(mutex_);
    at(rank).now = state::waits_for_device;
    changed_.notify_all();
    auto const limit = clock::now() + patience;
    while (at(rank).now == state::waits_for_device) {
      bool const all_wait = is_still();
      if (all_wait || clock::now() >= limit) issue(all_wait);
      else changed_.wait_until(lock, limit);
    }
  }
  /// How often ranks have been told something so far.
  std::uint64_t told() {
    std::lock_guard const lock(mutex_);
    return told_;
  }
  void tell() {
    std::lock_guard const lock(mutex_);
    ++told_;
    changed_.notify_all();
  }
  /// Waits until more has been told; false after a while.
  bool await_more(int rank, std::uint64_t than) {
    std::unique_lock lock(mutex_);
    auto& mine = at(rank);
    mine.now = state::waits_for_rank;
    mine.told = than;
    changed_.notify_all();
    bool const more = changed_.wait_for(lock, patience, [&] { return told_ != than; });
    if (more) mine.now = state::running;
    return more;
  }
  void go_on(int rank) {
    std::lock_guard const lock(mutex_);
    at(rank).now = state::running;
  }
  /// The rank's step has ended, or `for_ever` all of them.
  void end(int rank, bool for_ever) {
    std::lock_guard const lock(mutex_);
    at(rank).now = state::away;
    at(rank).is_gone = for_ever;
    ++told_;
    changed_.notify_all();
  }

  /// Frees all graphs, and forgets what is written down.
  void drop() {
    std::lock_guard const lock(mutex_);
    graphs_.clear();
    if (notes_ != nullptr) notes_->forget();
  }

  /// Whether no rank can go on before something is queued.
  bool is_still() const {
    return std::ranges::all_of(ranks_, [&](rank_state const& each) {
      return each.now != state::running && (each.now != state::waits_for_rank || each.told == told_);
    });
  }
  /// Queues what has been written down, whatever comes of it.
  void issue(bool may_capture) {
    for (auto& each : ranks_)
      if (each.now == state::waits_for_device) each.now = state::running;
    changed_.notify_all();
    detail::at_once const queued;
    notes_->issue([&](work_list const& list, cudaStream_t on) { graphs_.launch(list, on, may_capture); });
  }
  rank_state& at(int rank) { return ranks_[static_cast<std::size_t>(rank)]; }

  static constexpr auto patience = std::chrono::seconds(1);  // then a wait is taken for one that nothing here ends

  double const deadline_;
  std::shared_ptr<notebook> notes_;  // made on a rank's thread, for its device
  graph_cache graphs_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<rank_state> ranks_;
  std::uint64_t told_ = 0, all_begun_ = 0;  // by all ranks; steps
  bool writes_ = false;                     // the present step
};

}  // namespace pipewright::inline v0::cuda
