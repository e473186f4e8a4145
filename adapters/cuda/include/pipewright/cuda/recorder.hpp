// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include <nvtx3/nvToolsExt.h>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/event.hpp>
#include <pipewright/pipeline/observer.hpp>
#include <pipewright/schedule/notation.hpp>
#include <pipewright/trace/timeline.hpp>

namespace pipewright::inline v0::cuda {

/// An observer that measures when the device ran what a rank queued, by events on the rank's stream, and marks each action for
/// NVIDIA's profilers as an NVTX range ("2F0"). One for each rank, in that rank's thread; `measured_trace` joins what they took.
/// Transfers are left out: they are no work of that stream; and steps that run as one graph (step_graph), which has no actions.
class recorder {
  using clock = std::chrono::steady_clock;

 public:
  explicit recorder(context& where) : where_{where}, zero_(true) { set_zero(); }

  void before(pipewright::event const& e) {
    nvtxRangePushA(std::string(action_text(e.instruction.what).view()).c_str());
    if (!is_work(e)) return;
    if (used_ == moments_.size()) moments_.emplace_back();
    moments_[used_].begin.record(where_.stream());
  }
  void after(pipewright::event const& e) {
    nvtxRangePop();
    if (!is_work(e)) return;
    auto& m = moments_[used_++];
    m.rank = e.rank;
    m.ran = e.instruction;
    m.end.record(where_.stream());
  }

  /// What was recorded since the last call, in seconds of the steady clock. Waits for the device.
  std::vector<timed_action> take() {
    std::vector<timed_action> taken;
    if (used_ > 0) where_.wait(moments_[used_ - 1].end);
    for (std::size_t i = 0; i < used_; ++i)
      taken.push_back({moments_[i].rank, moments_[i].ran, seconds(moments_[i].begin), seconds(moments_[i].end)});
    used_ = 0;
    set_zero();  // times are floats: an hour after it they are a quarter of a millisecond apart
    return taken;
  }

 private:
  void set_zero() {
    where_.wait();
    zero_.record(where_.stream());
    where_.wait(zero_);
    zero_seconds_ = std::chrono::duration<double>(clock::now().time_since_epoch()).count();
  }
  struct moment {
    int rank = 0;
    instruction ran{};
    event begin{true}, end{true};
  };
  bool is_work(pipewright::event const& e) const {
    if (where_.writes_down()) return false;
    return is_compute(e.instruction.what.what) || e.instruction.what.what == kind::update;
  }
  double seconds(event const& at) const { return zero_seconds_ + 1e-3 * double{at.milliseconds_since(zero_)}; }

  context& where_;
  event zero_;
  double zero_seconds_ = 0;
  std::vector<moment> moments_;  // used again after take()
  std::size_t used_ = 0;
};
static_assert(observer<recorder>);

}  // namespace pipewright::inline v0::cuda
