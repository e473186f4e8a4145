// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <thread>

#include <pipewright/transport/wire/link.hpp>

namespace pipewright::inline v0::wire::detail {

/// What a wait does between two looks: the more it has looked, the more it leaves the core to others. One for each wait.
class pause {
 public:
  /// Looks again at once, then after others that want the core, then once there is news where the link says so, else after a
  /// nap that grows to 0.2 ms. Whether it has slept.
  bool rest(link auto& over) {
    if (++looks_ < 200) return false;
    if (looks_ < 400) {
      std::this_thread::yield();
    } else if constexpr (requires { over.await_news(seen_, longest_wait); }) {
      seen_ = over.await_news(seen_, longest_wait);
    } else {
      nap_ = std::min(nap_ * 2, std::chrono::microseconds(200));
      std::this_thread::sleep_for(nap_);
    }
    return looks_ >= 400;
  }

 private:
  static constexpr double longest_wait = 0.01;  // seconds; deadlines and signals are looked at as often

  int looks_ = 0;
  std::uint64_t seen_ = 0;
  std::chrono::microseconds nap_{5};
};

}  // namespace pipewright::inline v0::wire::detail
