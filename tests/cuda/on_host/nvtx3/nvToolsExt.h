// SPDX-License-Identifier: Apache-2.0
#pragma once
// What of NVTX the library uses: the ranges that are open are counted.
#include <string>
#include <vector>

namespace cuda_on_host {
inline thread_local std::vector<std::string> ranges;
inline thread_local std::size_t ranges_so_far = 0;
}  // namespace cuda_on_host

inline int nvtxRangePushA(char const* name) {
  cuda_on_host::ranges.emplace_back(name);
  ++cuda_on_host::ranges_so_far;
  return static_cast<int>(cuda_on_host::ranges.size()) - 1;
}
inline int nvtxRangePop() {
  cuda_on_host::ranges.pop_back();
  return static_cast<int>(cuda_on_host::ranges.size());
}
