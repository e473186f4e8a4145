// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include <pipewright/plan/plan_view.hpp>

namespace pipewright::inline v0::detail {

/// Where a rank is in its program of a plan. A plan that ends is walked once a batch. A stream is walked on and on, as far as
/// micro-batches are admitted, and to its last update when it is drained.
class program_cursor {
 public:
  program_cursor(plan_view const& plan, int rank) : plan_{plan}, rank_{rank} {
    deferred_.reserve(static_cast<std::size_t>(2 * plan.stages() + 4 * plan.facts.ranks));
  }

  plan_view const& plan() const { return plan_; }

  /// Another batch; of a plan that ends, with or without its exchanges and updates.
  void begin(bool updates) {
    updates_ = updates;
    if (plan_.is_stream()) admitted_ += plan_.facts.micro_batches;
    else at_ = 0;
  }
  /// From now on only what micro-batches in flight still need. restart() follows when nothing is left.
  void drain() { draining_ = true; }
  void restart() {
    at_ = 0;
    admitted_ = updated_ = 0;
    draining_ = false;
    deferred_.clear();
    late_ = -1;
  }

  bool is_under_way() const { return admitted_ > 0; }
  /// Updates of the stream since its start.
  int updated() const { return updated_; }
  void note_update() { updated_ += plan_.is_stream(); }
  /// A stream's rank runs behind: how many batches ago a micro-batch was admitted.
  int batches_since(int micro_batch) const {
    return plan_.is_stream() ? (admitted_ - 1) / plan_.facts.micro_batches - micro_batch / plan_.facts.micro_batches
                             : 0;
  }

  /// The instruction to run now; false where nothing is left until the next batch. A stream stops at the first micro-batch
  /// that is not admitted, but for receives that would be posted for one: those are put off.
  bool fetch(instruction& next) {
    if (!plan_.is_stream()) {
      for (;; ++at_) {
        if (at_ == plan_.programs.length(rank_)) return false;
        next = plan_.programs.begin_of(rank_)[at_];
        if (updates_ || next.what.what < kind::send_tied || next.what.what > kind::update) return true;
      }
    }
    if (!draining_ && find_late(next)) return true;
    for (;; ++at_) {
      if (draining_ && updated_ * plan_.update_interval() == admitted_) return false;
      next = plan_.at(rank_, at_);
      if (next.what.micro_batch < admitted_) return true;
      if (draining_) continue;
      if (!is_post(next.what.what)) return false;
      deferred_.push_back(next.what);
    }
  }
  /// What was fetched last is done.
  void advance() {
    if (late_ < 0) ++at_;
    else deferred_.erase(deferred_.begin() + late_);
  }

 private:
  /// A receive put off whose micro-batch is admitted by now.
  bool find_late(instruction& next) {
    late_ = -1;
    for (std::size_t i = 0; i < deferred_.size() && late_ < 0; ++i)
      if (deferred_[i].micro_batch < admitted_) {
        late_ = static_cast<int>(i);
        next = {deferred_[i], 0};
      }
    return late_ >= 0;
  }

  plan_view plan_;
  int rank_;
  long long at_ = 0;     // the next instruction
  bool updates_ = true;  // whether this batch ends in an update
  int admitted_ = 0;     // micro-batches of a stream
  int updated_ = 0;      // updates of a stream
  bool draining_ = false;
  std::vector<action> deferred_;  // receives to be posted when their micro-batch is admitted
  int late_ = -1;                 // which of them was fetched, or -1
};

}  // namespace pipewright::inline v0::detail
