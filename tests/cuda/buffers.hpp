// SPDX-License-Identifier: Apache-2.0
#pragma once
// Numbers in buffers of the thread's context, for tests that need no kernels of their own.
#include <cuda/numbers.hpp>

#include <pipewright/cuda/memory.hpp>

namespace cuda_testing {

using pipewright::cuda::buffer;

template<class T> buffer<T> on_device(std::vector<T> const& from) {
  buffer<T> made;
  made.resize(from.size());
  pipewright::cuda::upload<T>(from, made.data());
  return made;
}
template<class T> std::vector<T> on_host(buffer<T> const& from) {
  std::vector<T> made(from.size());
  pipewright::cuda::download<T>(from.data(), made);
  return made;
}
template<class T> buffer<T> poisoned(std::size_t n) { return on_device(not_numbers<T>(n)); }

}  // namespace cuda_testing
