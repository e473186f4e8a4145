// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include <pipewright/cuda/check.hpp>
#include <pipewright/cuda/queue.hpp>

namespace pipewright::inline v0::cuda {

/// A point in a stream's work, which other streams, and the host (context::wait), may wait for. Until it is first recorded nobody waits.
class event {
 public:
  /// `times`: whether elapsed times are asked of it, which costs a little.
  explicit event(bool times = false) {
    check(cudaEventCreateWithFlags(&of_, times ? cudaEventDefault : cudaEventDisableTiming), "cudaEventCreate");
  }
  event(event&& other) noexcept : of_{std::exchange(other.of_, nullptr)} {}
  event& operator=(event other) noexcept {
    std::swap(of_, other.of_);
    return *this;
  }
  ~event() {
    if (of_ != nullptr) cudaEventDestroy(of_);
  }

  /// The point is after all that was queued on the stream so far. Nothing while a thread's work is written down: its host then waits
  /// for all of it.
  void record(cudaStream_t on) {
    if (detail::list_here == nullptr) check(cudaEventRecord(of_, on), "cudaEventRecord");
  }
  /// What is queued on the stream from now on comes after the point, as last recorded. The host goes on. Throws error while a
  /// thread's work is written down, which is of one stream.
  void hold(cudaStream_t waiting) const {
    if (detail::list_here != nullptr)
      throw error("pipewright: a step whose transfers go by other streams cannot be one graph; run it without");
    check(cudaStreamWaitEvent(waiting, of_, 0), "cudaStreamWaitEvent");
  }
  /// Whether the work before the point is done.
  bool is_reached() const {
    auto const code = cudaEventQuery(of_);
    if (code == cudaErrorNotReady) return false;
    check(code, "cudaEventQuery");
    return true;
  }
  /// Between two points that have been reached, and both have times.
  float milliseconds_since(event const& earlier) const {
    float between = 0;
    check(cudaEventElapsedTime(&between, earlier.of_, of_), "cudaEventElapsedTime");
    return between;
  }

 private:
  cudaEvent_t of_ = nullptr;
};

}  // namespace pipewright::inline v0::cuda
