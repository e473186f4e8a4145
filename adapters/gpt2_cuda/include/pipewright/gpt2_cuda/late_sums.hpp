// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <deque>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/event.hpp>
#include <pipewright/cuda/memory.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0::gpt2::cuda {

/// A number that the device will have written into the host's memory.
class late_sum final : public late_number {
 public:
  explicit late_sum(pipewright::cuda::context& where) : where_{where} {
    here_.resize(1);
    there_.resize(1);
  }
  /// Where the device is to leave it; then come().
  double* on_device() { return there_.data(); }
  void come() {
    pipewright::cuda::queue_copy(where_.stream(), there_.data(), 1, here_.data());
    there_is_.record(where_.stream());
  }
  double get() override {
    where_.wait(there_is_);
    return *here_.data();
  }

 private:
  pipewright::cuda::context& where_;
  pipewright::cuda::pinned_buffer<double> here_;
  pipewright::cuda::buffer<double> there_;
  pipewright::cuda::event there_is_;
};

/// As many as are asked for, the losses of a step's micro-batches say: `context.kept<late_sums>()`.
class late_sums {
 public:
  explicit late_sums(pipewright::cuda::context& where) : where_{where} {}
  late_sum& of(std::size_t i) {
    while (sums_.size() <= i) sums_.emplace_back(where_);
    return sums_[i];
  }

 private:
  pipewright::cuda::context& where_;
  std::deque<late_sum> sums_;  // stay where they are
};

}  // namespace pipewright::inline v0::gpt2::cuda
