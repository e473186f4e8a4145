// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

#include <pipewright/cuda/work_list.hpp>

namespace pipewright::inline v0::cuda {

namespace detail {

struct destroy_handle {
  void operator()(cudaEvent_t of) const { cudaEventDestroy(of); }
  void operator()(cudaStream_t of) const { cudaStreamDestroy(of); }
};
template<class Handle> using handle = std::unique_ptr<std::remove_pointer_t<Handle>, destroy_handle>;

inline handle<cudaEvent_t> make_event(unsigned flags) {
  cudaEvent_t made = nullptr;
  check(cudaEventCreateWithFlags(&made, flags), "cudaEventCreate");
  return handle<cudaEvent_t>(made);
}
inline handle<cudaStream_t> make_stream() {
  cudaStream_t made = nullptr;
  check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "cudaStreamCreate");
  return handle<cudaStream_t>(made);
}

}  // namespace detail

/// Where threads write down the work of a device's streams before it is queued as one: list after list, each of which comes, on the
/// device, after the one before. Any thread may call any of it.
class notebook {
 public:
  /// A point in a stream's written work.
  struct point {
    cudaEvent_t at = nullptr;
    std::uint64_t list = 0;
  };

  /// For streams of the calling thread's device.
  notebook() = default;

  template<class... Args> void add(char const* name, cudaStream_t on, queueing<Args...> call, Args const&... given) {
    std::lock_guard const lock(mutex_);
    list_.add(name, on, call, given...);
  }
  /// After all that is written for the stream so far.
  point record(cudaStream_t on) {
    std::lock_guard const lock(mutex_);
    auto& [events, used] = points_[on];
    if (used == events.size()) events.push_back(detail::make_event(cudaEventDisableTiming));
    cudaEvent_t const at = events[used++].get();
    list_.add(
        "cudaEventRecord", on, +[](cudaStream_t stream, cudaEvent_t of) { return cudaEventRecord(of, stream); }, at);
    return {at, number_};
  }
  /// What is written for the stream from now on comes after the point. A point of an earlier list does so anyway.
  void hold(cudaStream_t waiting, point of) {
    std::lock_guard const lock(mutex_);
    if (of.list == number_)
      list_.add(
          "cudaStreamWaitEvent", waiting,
          +[](cudaStream_t stream, cudaEvent_t on) { return cudaStreamWaitEvent(stream, on, 0); }, of.at);
  }
  /// All lists from now on come after a point of work that was queued at once.
  void hold_all(cudaEvent_t of) { check(cudaStreamWaitEvent(stream_.get(), of, 0), "cudaStreamWaitEvent"); }

  /// For work that is queued at once: it comes after a list.
  void hold_queued(cudaStream_t waiting, point of) const {
    if (!is_queued(of))
      throw error(
          "pipewright: a step was queued while what it needs was only written down; let all ranks of a device run "
          "their "
          "steps as graphs, or none");
    check(cudaStreamWaitEvent(waiting, done_.get(), 0), "cudaStreamWaitEvent");
  }
  /// Whether the list of the point is queued, or lost.
  bool is_queued(point of) const {
    std::lock_guard const lock(mutex_);
    return of.list < queued_;
  }
  /// Whether the work before the point is done.
  bool is_reached(point of) const {
    if (!is_queued(of)) return false;
    auto const code = cudaEventQuery(done_.get());
    if (code == cudaErrorNotReady) return false;
    check(code, "cudaEventQuery");
    return true;
  }

  /// Calls queue(list, stream) with what has been written down since the last time, if anything; it queues that in the order of the
  /// stream. Streams that have work in it wait for all of it. Where that fails it is lost, and nobody waits for it.
  void issue(auto&& queue) {
    work_list const now = take();
    if (now.empty()) return;
    try {
      now.for_each_stream([&](cudaStream_t on) {
        check(cudaEventRecord(before_.get(), on), "cudaEventRecord");
        check(cudaStreamWaitEvent(stream_.get(), before_.get(), 0), "cudaStreamWaitEvent");
      });
      queue(now, stream_.get());
      std::lock_guard const lock(mutex_);
      check(cudaEventRecord(done_.get(), stream_.get()), "cudaEventRecord");
      queued_ = number_;
    } catch (...) {
      std::lock_guard const lock(mutex_);
      queued_ = number_;
      throw;
    }
    now.for_each_stream(
        [&](cudaStream_t on) { check(cudaStreamWaitEvent(on, done_.get(), 0), "cudaStreamWaitEvent"); });
  }
  /// What has been written down since is lost, and nobody waits for it.
  void forget() {
    take();
    std::lock_guard const lock(mutex_);
    queued_ = number_;
  }

 private:
  struct points_of_stream {
    std::deque<detail::handle<cudaEvent_t>> events;
    std::size_t used = 0;
  };

  /// Begins the next list.
  work_list take() {
    std::lock_guard const lock(mutex_);
    if (list_.empty()) return {};
    for (auto& [on, points] : points_) points.used = 0;
    ++number_;
    return std::exchange(list_, {});
  }

  mutable std::mutex mutex_;
  work_list list_;
  std::uint64_t number_ = 0, queued_ = 0;  // of the list that is being written; lists that are queued, or lost
  std::map<cudaStream_t, points_of_stream> points_;
  detail::handle<cudaStream_t> const stream_ = detail::make_stream();
  detail::handle<cudaEvent_t> const before_ = detail::make_event(cudaEventDisableTiming),
                                    done_ = detail::make_event(cudaEventDisableTiming);
};

}  // namespace pipewright::inline v0::cuda
