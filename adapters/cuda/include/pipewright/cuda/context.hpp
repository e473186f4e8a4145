// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <typeindex>
#include <utility>
#include <vector>

#include <pipewright/cuda/check.hpp>
#include <pipewright/cuda/event.hpp>
#include <pipewright/cuda/pinned_memory.hpp>

namespace pipewright::inline v0::cuda {

namespace detail {
/// What a rank's host does while its work is written down (see step_graph).
class step_writer {
 public:
  virtual void hand_over() = 0;
  virtual std::uint64_t told() = 0;
  virtual void tell() = 0;
  virtual bool await_more(std::uint64_t than) = 0;
  virtual void go_on() = 0;

 protected:
  ~step_writer() = default;
};
}  // namespace detail

/// Where a rank's stages work: a device, a stream of it, and what the stages of a rank share there. Made by the rank's thread, which
/// then works in it (`here()`) until it ends or another is made. It outlives all that was made in it; what of it allocates, works or
/// ends does so while the thread works here.
class context {
 public:
  /// Throws error where there is no such device.
  explicit context(int device = 0, int rank = -1) : device_{device}, rank_{rank}, stream_{stream_of(device)} {
    all().push_back(this);
    work_here();
  }
  context(context const&) = delete;
  context& operator=(context const&) = delete;
  ~context() {
    context* const other = std::exchange(current(), this);
    cudaSetDevice(device_);
    kept_.clear();
    cudaStreamDestroy(stream_);
    std::erase(all(), this);
    context* const next = other != this ? other : all().empty() ? nullptr : all().back();
    current() = next;
    detail::rank_here = next == nullptr ? -1 : next->rank_;
    if (next != nullptr) cudaSetDevice(next->device_);
  }

  /// The one in which this thread works. Throws error where there is none.
  static context& here() {
    if (current() == nullptr)
      throw error(
          "pipewright: this thread has no place on a device; make a pipewright::cuda::context first, or run ranks by "
          "pipewright::cuda::loopback::run");
    return *current();
  }
  /// The same, or null.
  static context* of_this_thread() noexcept { return current(); }
  /// From now on this thread works here; for a thread that drives several ranks.
  void work_here() {
    check(cudaSetDevice(device_), "cudaSetDevice");
    current() = this;
    detail::rank_here = rank_;
  }

  cudaStream_t stream() const noexcept { return stream_; }
  int device() const noexcept { return device_; }
  int rank() const noexcept { return rank_; }
  /// The host's memory that the device reads and writes by itself, for pinned_buffer.
  pinned_memory& pinned() noexcept { return pinned_; }
  /// The host waits for all that was queued so far; what went wrong there is thrown, and what meanwhile() throws.
  void wait() {
    hand_over();
    if (fault_) std::rethrow_exception(std::exchange(fault_, nullptr));
    detail::at_once const now;
    point_.record(stream_);
    look_until(point_);
  }
  /// The same for one point of any stream.
  void wait(event const& point) {
    if (point.is_only_written()) hand_over();
    look_until(point);
  }
  /// From now on the work here is written down; null: it is queued at once.
  void write_down(detail::step_writer* by) {
    writes_ = by;
    if (by != nullptr) ++lists_;
  }
  /// Whether work is written down at present, and how many times that has begun.
  bool writes_down() const { return writes_ != nullptr; }
  std::uint64_t lists() const { return lists_; }
  /// Queues what was written down.
  void hand_over() {
    if (writes_ != nullptr) writes_->hand_over();
  }
  /// For a transport between ranks of the device: another rank may now find done what it waits for.
  void tell_others() {
    if (writes_ != nullptr) writes_->tell();
  }
  /// For the same: wait(), which waits until is_done().
  void wait_for_others(auto&& is_done, auto&& wait) {
    if (writes_ == nullptr) return wait();
    for (;;) {
      auto const told = writes_->told();
      if (is_done() || !writes_->await_more(told)) break;
    }
    wait();
    writes_->go_on();
  }
  /// How graphs and written work are dropped that may hold what others are to end, such as communicators; empty: there are none.
  void keep_steps(std::function<void()> drop) { drop_steps_ = std::move(drop); }
  /// Drops them. Graphs that run are freed once they have ended.
  void drop_steps() noexcept {
    if (drop_steps_) drop_steps_();
  }
  /// What went wrong where nothing can be thrown: the next wait() throws it.
  void note_fault(std::exception_ptr fault) noexcept {
    if (!fault_) fault_ = std::move(fault);
  }
  /// What the host does again and again while it waits for the device: looks whether another rank has failed, or a deadline has
  /// passed. Empty: nothing.
  void meanwhile(std::function<void()> look) { meanwhile_ = std::move(look); }

  /// The one T of this context, made from it (`T(context&)`) when it is first asked for.
  template<class T> T& kept() {
    auto& found = kept_[std::type_index(typeid(T))];
    if (found == nullptr) found = std::make_shared<T>(*this);
    return *static_cast<T*>(found.get());
  }

 private:
  void look_until(event const& point) {
    for (int looks = 0; !point.is_reached(); ++looks) {
      if (meanwhile_) meanwhile_();
      if (looks < eager_looks) std::this_thread::yield();
      else std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
  static context*& current() {
    static thread_local context* one = nullptr;
    return one;
  }
  /// Of this thread, in the order in which they were made.
  static std::vector<context*>& all() {
    static thread_local std::vector<context*> ones;
    return ones;
  }
  static cudaStream_t stream_of(int device) {
    check_device(device);
    check(cudaSetDevice(device), "cudaSetDevice");
    return detail::make_stream().release();
  }
  static void check_device(int device) {
    int count = 0;
    auto const code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess) static_cast<void>(cudaGetLastError());
    if (code != cudaSuccess || count == 0)
      throw error(std::string("pipewright: there is no CUDA device here: ") +
                  cudaGetErrorString(code == cudaSuccess ? cudaErrorNoDevice : code) +
                  "; run on a machine with an NVIDIA GPU and its driver, or let the host compute");
    if (device < 0 || device >= count)
      throw error("pipewright: there is no CUDA device " + std::to_string(device) +
                  " here; the last one has the number " + std::to_string(count - 1));
  }

  int const device_, rank_;
  static constexpr int eager_looks = 1000;  // some milliseconds

  cudaStream_t const stream_;
  event point_;
  std::function<void()> meanwhile_, drop_steps_;
  detail::step_writer* writes_ = nullptr;
  std::uint64_t lists_ = 0;
  std::exception_ptr fault_;
  pinned_memory pinned_;
  std::map<std::type_index, std::shared_ptr<void>> kept_;
};

}  // namespace pipewright::inline v0::cuda
