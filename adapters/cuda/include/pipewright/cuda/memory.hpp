// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <pipewright/cuda/context.hpp>
#include <pipewright/transport/message.hpp>
#include <pipewright/transport/parts.hpp>
#include <pipewright/transport/value_shape.hpp>

namespace pipewright::inline v0::cuda {

namespace detail {

inline std::string spelled_bytes(std::size_t bytes) {
  return bytes < std::size_t{10} << 20 ? std::to_string(bytes) + " bytes" : std::to_string(bytes >> 20) + " MiB";
}

/// In the order of the stream of the thread's context: neither waits for the device, on which kernels of other streams may wait for
/// what this host is still to queue.
struct of_device {
  static void* allocate(std::size_t bytes) {
    void* at = nullptr;
    auto const code = cudaMallocAsync(&at, bytes, context::here().stream());
    if (code != cudaErrorMemoryAllocation) {
      check(code, "cudaMallocAsync");
      return at;
    }
    static_cast<void>(cudaGetLastError());
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw error("pipewright: " + place_of("cudaMallocAsync", std::source_location::current()) + " found no room for " +
                spelled_bytes(bytes) + " more on the device, of whose " + spelled_bytes(total) + " " +
                spelled_bytes(free) + " are free; choose smaller micro-batches, more ranks, or recompute");
  }
  static void free(void* at) noexcept {
    auto* const here = context::of_this_thread();
    if (here == nullptr) {  // in no order: after all that its device has to do
      int now = 0;
      cudaPointerAttributes of{};
      cudaGetDevice(&now);
      if (cudaPointerGetAttributes(&of, at) == cudaSuccess) cudaSetDevice(of.device);
      cudaDeviceSynchronize();
      cudaFree(at);
      cudaSetDevice(now);
      return;
    }
    try {
      here->hand_over();  // work that is written down may use it
    } catch (std::exception const&) {
      here->note_fault(std::current_exception());
    }
    cudaFreeAsync(at, here->stream());
  }
};
struct of_host {
  static void* allocate(std::size_t bytes) { return context::here().pinned().take(bytes); }
  static void free(void* at) noexcept {
    auto* const here = context::of_this_thread();
    if (here == nullptr) return;  // it went with its context
    try {
      here->hand_over();
      at_once const now;
      here->pinned().give_back(at, here->stream());
    } catch (std::exception const&) {  // it goes with its context
      here->note_fault(std::current_exception());
    }
  }
};

/// A run of T's that only grows, and then loses what it held.
template<class T, class Where> class run {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  run() = default;
  run(run&& other) noexcept
      : at_{std::exchange(other.at_, nullptr)},
        size_{std::exchange(other.size_, 0)},
        room_{std::exchange(other.room_, 0)} {}
  run& operator=(run&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(size_, other.size_);
    std::swap(room_, other.room_);
    return *this;
  }
  ~run() {
    if (at_ != nullptr) Where::free(at_);
  }

  T* data() noexcept { return at_; }
  T const* data() const noexcept { return at_; }
  std::size_t size() const noexcept { return size_; }
  /// Makes room for n. Where there was less, what was held is lost.
  void resize(std::size_t n) {
    if (n > room_) {
      if (at_ != nullptr) Where::free(std::exchange(at_, nullptr));  // not both at once
      room_ = size_ = 0;
      at_ = static_cast<T*>(Where::allocate(n * sizeof(T)));
      room_ = n;
    }
    size_ = n;
  }

 private:
  T* at_ = nullptr;
  std::size_t size_ = 0, room_ = 0;
};

/// Where a value's parts on the device lie, in one number.
inline std::uintptr_t places_of(message value) {
  std::uintptr_t all = 0;
  pipewright::detail::for_each_part_of(value, [&](part p) {
    if (p.on_device) all = all * 31 + reinterpret_cast<std::uintptr_t>(p.data);
  });
  return all;
}

}  // namespace detail

/// Owned memory of the device of the context in which it is made, for the work that is queued on that context's stream. A copy is
/// a copy of the numbers.
template<class T> class buffer : public detail::run<T, detail::of_device> {
  using base = detail::run<T, detail::of_device>;

 public:
  buffer() = default;
  /// n zeros.
  explicit buffer(std::size_t n) {
    this->resize(n);
    clear();
  }
  buffer(buffer const& other) : base() {
    this->resize(other.size());
    copy_from(other.data());
  }
  buffer(buffer&&) noexcept = default;
  buffer& operator=(buffer other) noexcept {
    base::operator=(std::move(other));
    return *this;
  }
  ~buffer() = default;

  void for_each_part(auto&& visit) {
    if (this->size() > 0) visit(part{this->data(), this->size() * sizeof(T), element_of<T>, true});
  }
  std::vector<std::int64_t> shape() const { return {static_cast<std::int64_t>(this->size())}; }
  void reshape(std::span<std::int64_t const> numbers) { this->resize(static_cast<std::size_t>(numbers[0])); }

  void clear() { queue_zeros(context::here().stream(), this->data(), this->size()); }
  /// From as many T's, on the device or in pinned memory.
  void copy_from(T const* from) { queue_copy(context::here().stream(), from, this->size(), this->data()); }
};

/// Owned memory of the host that the device reads and writes by itself, while the host goes on; of the context in which it is made,
/// and for the work on its stream.
template<class T> using pinned_buffer = detail::run<T, detail::of_host>;

/// Copies between the host and the device, done when they return.
template<class T> void upload(std::span<T const> from, T* to) {
  auto& here = context::here();
  queue_copy(here.stream(), from.data(), from.size(), to);
  here.wait();
}
template<class T> void download(T const* from, std::span<T> to) {
  auto& here = context::here();
  queue_copy(here.stream(), from, to.size(), to.data());
  here.wait();
}

/// Room on the device while one action runs, one for all stages of a rank: `context.kept<scratch>().room<float>(n)`. What is in it
/// is anybody's.
class scratch {
 public:
  explicit scratch(context&) {}
  template<class T> T* room(std::size_t n) {
    room_.resize((n * sizeof(T) + 255) / 256 * 256);
    return reinterpret_cast<T*>(room_.data());
  }

 private:
  detail::run<std::byte, detail::of_device> room_;
};

static_assert(has_parts<buffer<float>> && says_its_shape<buffer<float>>);

}  // namespace pipewright::inline v0::cuda
