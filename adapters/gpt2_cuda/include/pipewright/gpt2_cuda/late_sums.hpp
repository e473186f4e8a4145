// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <deque>
#include <string>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/event.hpp>
#include <pipewright/cuda/memory.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0::gpt2::cuda {

/// A number that the device will have written into the host's memory.
class late_sum final : public late_number {
 public:
  /// `there`: on the device; `here`: pinned.
  late_sum(pipewright::cuda::context& where, double* there, double* here) : where_{where}, there_{there}, here_{here} {}
  /// Where the device is to leave it; then come().
  double* on_device() { return there_; }
  void come() {
    pipewright::cuda::queue_copy(where_.stream(), there_, 1, here_);
    is_here_.record(where_.stream());
  }
  double get() override {
    where_.wait(is_here_);
    return *here_;
  }

 private:
  pipewright::cuda::context& where_;
  double *there_, *here_;
  pipewright::cuda::event is_here_;
};

/// As many as are asked for, the losses of a step's micro-batches say: `context.kept<late_sums>()`.
class late_sums {
  static constexpr std::size_t most = 4096;

 public:
  explicit late_sums(pipewright::cuda::context& where) : where_{where} {
    there_.resize(most);
    here_.resize(most);
  }
  /// Throws error beyond 4096.
  late_sum& of(std::size_t i) {
    if (i >= most)
      throw error("pipewright: a step on the device has up to " + std::to_string(most) +
                  " micro-batches, and a rank as many parameters to clip; choose fewer");
    while (sums_.size() <= i) sums_.emplace_back(where_, there_.data() + sums_.size(), here_.data() + sums_.size());
    return sums_[i];
  }

 private:
  pipewright::cuda::context& where_;
  pipewright::cuda::buffer<double> there_;
  pipewright::cuda::pinned_buffer<double> here_;
  std::deque<late_sum> sums_;  // stay where they are
};

}  // namespace pipewright::inline v0::gpt2::cuda
