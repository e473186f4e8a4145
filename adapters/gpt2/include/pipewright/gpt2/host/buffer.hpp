// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <new>
#include <vector>

namespace pipewright::inline v0::gpt2::host {

/// Memory aligned to a cache line, so that vector loads never straddle one.
template<class T>
struct aligned_allocator {
  using value_type = T;
  static constexpr std::align_val_t alignment{64};

  aligned_allocator() = default;
  template<class U>
  constexpr aligned_allocator(aligned_allocator<U> const&) noexcept {}

  [[nodiscard]] auto allocate(std::size_t n) -> T* { return static_cast<T*>(::operator new(n * sizeof(T), alignment)); }
  void deallocate(T* p, std::size_t) noexcept { ::operator delete(p, alignment); }

  template<class U>
  friend bool operator==(aligned_allocator const&, aligned_allocator<U> const&) noexcept {
    return true;
  }
};

/// An owned run of fp32 values, zero when made.
using buffer = std::vector<float, aligned_allocator<float>>;

}  // namespace pipewright::inline v0::gpt2::host
