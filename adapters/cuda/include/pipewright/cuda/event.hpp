// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>

#include <pipewright/cuda/check.hpp>
#include <pipewright/cuda/queue.hpp>

namespace pipewright::inline v0::cuda {

/// A point in a stream's work, queued or written down, which other streams, and the host (context::wait), may wait for. Until it is
/// first recorded nobody waits.
class event {
 public:
  /// `times`: whether elapsed times are asked of it, which costs a little; such an event is recorded while nothing is written down.
  explicit event(bool times = false) : of_{detail::make_event(times ? cudaEventDefault : cudaEventDisableTiming)} {}

  /// The point is after all that was queued on the stream so far, or written down for it.
  void record(cudaStream_t on) {
    written_in_ = detail::notebook_here;
    if (written_in_ != nullptr) written_ = written_in_->record(on);
    else check(cudaEventRecord(of_.get(), on), "cudaEventRecord");
  }
  /// What comes to the stream from now on comes after the point, as last recorded. The host goes on.
  void hold(cudaStream_t waiting) const {
    auto const& here = detail::notebook_here;
    if (written_in_ != nullptr && written_in_ == here) here->hold(waiting, written_);
    else if (written_in_ != nullptr) written_in_->hold_queued(waiting, written_);
    else if (here != nullptr) here->hold_all(of_.get());
    else check(cudaStreamWaitEvent(waiting, of_.get(), 0), "cudaStreamWaitEvent");
  }
  /// Whether the point is in work that is written down and not queued.
  bool is_only_written() const { return written_in_ != nullptr && !written_in_->is_queued(written_); }
  /// Whether the work before the point is done.
  bool is_reached() const {
    if (written_in_ != nullptr) return written_in_->is_reached(written_);
    auto const code = cudaEventQuery(of_.get());
    if (code == cudaErrorNotReady) return false;
    check(code, "cudaEventQuery");
    return true;
  }
  /// Between two points that have been reached, and both have times.
  float milliseconds_since(event const& earlier) const {
    float between = 0;
    check(cudaEventElapsedTime(&between, earlier.of_.get(), of_.get()), "cudaEventElapsedTime");
    return between;
  }

 private:
  detail::handle<cudaEvent_t> of_;
  std::shared_ptr<notebook> written_in_;
  notebook::point written_;
};

}  // namespace pipewright::inline v0::cuda
