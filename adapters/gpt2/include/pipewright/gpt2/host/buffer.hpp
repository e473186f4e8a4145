// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
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

/// The most values of scratch that this thread was asked for; a scratch_meter begins anew.
inline constinit thread_local std::size_t most_scratch = 0;

/// Room for so many values while an action runs, one for all stages of a thread; what is in it is anybody's. Allocates where
/// more are asked for than ever before.
[[nodiscard]] inline auto scratch(std::size_t values) -> float* {
  thread_local buffer room;
  most_scratch = std::max(most_scratch, values);
  if (room.size() < values) {
    room = {};  // not both at once
    room.resize(values);
  }
  return room.data();
}

/// A memory_meter of the host's scratch: profile_layers<host::scratch_meter>(...) knows what layers need beside what they save.
struct scratch_meter {
  static constexpr bool sees_saved = false;
  std::int64_t held() const { return 0; }
  std::int64_t most() const { return static_cast<std::int64_t>(most_scratch * sizeof(float)); }
  void restart() { most_scratch = 0; }
};

}  // namespace pipewright::inline v0::gpt2::host
