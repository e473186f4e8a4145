// SPDX-License-Identifier: Apache-2.0
#pragma once
// What is queued on a stream goes through here, so that a step's work can be written down first and then be queued as one.

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

#include <pipewright/cuda/check.hpp>
#include <pipewright/cuda/notebook.hpp>

namespace pipewright::inline v0::cuda {

namespace detail {
/// Where this thread's work is written down; null while it is queued at once.
inline thread_local std::shared_ptr<notebook> notebook_here;

/// While it is there nothing is written down.
struct at_once {
  std::shared_ptr<notebook> before = std::move(notebook_here);
  at_once() { notebook_here.reset(); }
  at_once(at_once const&) = delete;
  at_once& operator=(at_once const&) = delete;
  ~at_once() { notebook_here = std::move(before); }
};
}  // namespace detail

/// Queues call(on, given...), or writes it down. Throws error with the name where CUDA refuses.
template<class... Args>
void queue(char const* name, cudaStream_t on, queueing<Args...> call, std::type_identity_t<Args> const&... given) {
  if (detail::notebook_here != nullptr && on != nullptr) return detail::notebook_here->add(name, on, call, given...);
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
