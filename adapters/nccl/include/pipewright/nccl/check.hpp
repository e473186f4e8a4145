// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <source_location>
#include <string>
#include <string_view>

#include <nccl.h>

#include <pipewright/cuda/check.hpp>
#include <pipewright/error.hpp>

#if NCCL_VERSION_CODE < NCCL_VERSION(2, 19, 0)
#error "pipewright: the NCCL adapter needs NCCL 2.19 or later, and this nccl.h is older; install a newer NCCL"
#endif

namespace pipewright::inline v0::nccl {

namespace detail {
/// NCCL's own words for what went wrong, and where to learn more.
inline std::string words_for(ncclResult_t code, ncclComm_t on) {
  std::string text = ncclGetErrorString(code);
  if (char const* const last = ncclGetLastError(on); last != nullptr && *last != 0) text += ", " + std::string(last);
  return text + (code == ncclUnhandledCudaError ? "; run on a machine with an NVIDIA GPU and a driver for this CUDA"
                                                : "; NCCL_DEBUG=WARN in the environment says more");
}
}  // namespace detail

/// Throws error with rank, call, place in the code and NCCL's own words, unless a call went well or is still in
/// progress.
inline void check(ncclResult_t code, std::string_view call, ncclComm_t on = nullptr,
                  std::source_location at = std::source_location::current()) {
  if (code == ncclSuccess || code == ncclInProgress) return;
  throw error("pipewright: " + cuda::detail::place_of(call, at) + " failed: " + detail::words_for(code, on));
}

}  // namespace pipewright::inline v0::nccl
