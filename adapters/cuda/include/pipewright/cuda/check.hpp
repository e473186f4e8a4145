// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <source_location>
#include <string>
#include <string_view>

#include <cuda_runtime_api.h>

#include <pipewright/error.hpp>

namespace pipewright::inline v0::cuda {

namespace detail {
inline thread_local int rank_here = -1;  // of the context in which this thread works

/// "rank 2: cudaMalloc at buffer.hpp:40".
inline std::string place_of(std::string_view call, std::source_location at) {
  std::string_view const path = at.file_name();
  return (rank_here < 0 ? "" : "rank " + std::to_string(rank_here) + ": ") + std::string(call) + " at " +
         std::string(path.substr(path.find_last_of('/') + 1)) + ':' + std::to_string(at.line());
}
}  // namespace detail

/// Throws error with rank, call, place in the code and CUDA's own words, unless a call went well. What a kernel did wrong shows
/// in a later call, of any name.
inline void check(cudaError_t code, std::string_view call, std::source_location at = std::source_location::current()) {
  if (code == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // so that the next call does not say it again
  throw error("pipewright: " + detail::place_of(call, at) + " failed: " + cudaGetErrorString(code) + " (" +
              cudaGetErrorName(code) + ")");
}

}  // namespace pipewright::inline v0::cuda
