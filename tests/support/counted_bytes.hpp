// SPDX-License-Identifier: Apache-2.0
#pragma once
// Bytes that a program's allocators have out now, by the thread's tag that took them, and the most at one time.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace support {

class counted_bytes {
 public:
  /// Whose what this thread takes is. Whoever gives it back.
  static inline constinit thread_local std::size_t taker = 0;

  static void add(std::size_t whose, std::int64_t bytes) {
    std::lock_guard const lock(mutex_);
    out_[whose] += bytes;
    most_[whose] = std::max(most_[whose], out_[whose]);
  }
  static std::int64_t now() {
    std::lock_guard const lock(mutex_);
    return out_[taker];
  }
  /// Since restart().
  static std::int64_t most() {
    std::lock_guard const lock(mutex_);
    return most_[taker];
  }
  /// Forgets what was before; gives what is out now.
  static std::int64_t restart() {
    std::lock_guard const lock(mutex_);
    return most_[taker] = out_[taker];
  }

 private:
  static inline constinit std::mutex mutex_;
  static inline constinit std::array<std::int64_t, 16> out_{}, most_{};
};

}  // namespace support
