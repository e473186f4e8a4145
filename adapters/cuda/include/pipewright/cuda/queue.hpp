// SPDX-License-Identifier: Apache-2.0
#pragma once
// What is queued on a stream goes through here, so that a step's work can be written down first and then be queued as one.

#include <algorithm>
#include <cstddef>
#include <new>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <pipewright/cuda/check.hpp>

namespace pipewright::inline v0::cuda {

/// A function that queues something on a stream, and says how that went. What it is given is copied byte by byte.
template<class... Args> using queueing = cudaError_t (*)(cudaStream_t, Args...);

/// Work of one stream, written down: calls and their arguments. Two lists are equal where they do the same on the same memory.
class work_list {
 public:
  explicit work_list(cudaStream_t of) : of_{of} {}
  cudaStream_t stream() const { return of_; }
  template<class... Args> void add(char const* name, queueing<Args...> call, Args const&... given) {
    static_assert((... && std::is_trivially_copyable_v<Args>),
                  "pipewright: what is queued must be bytes that can be copied");
    using all = std::tuple<queueing<Args...>, Args...>;
    std::size_t const at =
        (bytes_.size() + alignof(std::max_align_t) - 1) / alignof(std::max_align_t) * alignof(std::max_align_t);
    bytes_.resize(at + sizeof(all));  // zeros, so that gaps are equal too
    new (bytes_.data() + at) all(call, given...);
    calls_.push_back({name, at, [](std::byte const* from, cudaStream_t on) {
                        return std::apply([&](auto f, auto const&... each) { return f(on, each...); },
                                          *std::launder(reinterpret_cast<all const*>(from)));
                      }});
  }
  /// Queues it all.
  void play(cudaStream_t on) const {
    for (auto const& each : calls_) check(each.play(bytes_.data() + each.at, on), each.name);
  }
  bool empty() const { return calls_.empty(); }
  void clear() {
    calls_.clear();
    bytes_.clear();
  }

  friend bool operator==(work_list const& a, work_list const& b) {
    auto const same = [](call const& x, call const& y) { return x.play == y.play && x.at == y.at; };
    return a.bytes_ == b.bytes_ && std::equal(a.calls_.begin(), a.calls_.end(), b.calls_.begin(), b.calls_.end(), same);
  }

 private:
  struct call {
    char const* name;
    std::size_t at;
    cudaError_t (*play)(std::byte const*, cudaStream_t);
  };
  cudaStream_t of_;
  std::vector<call> calls_;
  std::vector<std::byte> bytes_;
};

namespace detail {
/// Where this thread's work is written down; null while it is queued at once.
inline thread_local work_list* list_here = nullptr;

/// While it is there nothing is written down.
struct at_once {
  work_list* const before = std::exchange(list_here, nullptr);
  at_once() = default;
  at_once(at_once const&) = delete;
  at_once& operator=(at_once const&) = delete;
  ~at_once() { list_here = before; }
};
}  // namespace detail

/// Queues call(on, given...), or writes it down. Throws error with the name where CUDA refuses.
template<class... Args>
void queue(char const* name, cudaStream_t on, queueing<Args...> call, std::type_identity_t<Args> const&... given) {
  if (detail::list_here != nullptr && on != nullptr) {
    if (on != detail::list_here->stream())
      throw error(std::string("pipewright: ") + name +
                  " is for another stream than the step that is written down; run such steps without a step_graph");
    return detail::list_here->add(name, call, given...);
  }
  check(call(on, given...), name);
}

/// Copies n T's, of the device or of pinned memory.
template<class T> void queue_copy(cudaStream_t on, T const* from, std::size_t n, T* to) {
  if (n == 0 || from == to) return;
  queue(
      "cudaMemcpyAsync", on,
      +[](cudaStream_t stream, void* into, void const* source, std::size_t bytes) {
        return cudaMemcpyAsync(into, source, bytes, cudaMemcpyDefault, stream);
      },
      to, from, n * sizeof(T));
}
/// Sets n T's to zero.
template<class T> void queue_zeros(cudaStream_t on, T* to, std::size_t n) {
  if (n == 0) return;
  queue(
      "cudaMemsetAsync", on,
      +[](cudaStream_t stream, void* into, std::size_t bytes) { return cudaMemsetAsync(into, 0, bytes, stream); }, to,
      n * sizeof(T));
}

}  // namespace pipewright::inline v0::cuda
