// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>

#include <pipewright/nccl/channel.hpp>
#include <pipewright/nccl/guard.hpp>

namespace pipewright::inline v0::nccl::detail {

/// The deadline of what the rank's stream waits for, while its host does something else or waits, too: the oldest such transfer has
/// so long, of the time in which the host looks.
class device_deadline {
  using clock = std::chrono::steady_clock;

 public:
  /// Fails where it has passed.
  template<class Control> void look(channels& of, guard<Control>& guarded) {
    auto const now = clock::now();
    ticket oldest;
    std::uint64_t held = 0;
    of.for_each([&](channel& c) {
      for (std::uint64_t n = c.first; n < c.queued; ++n) {
        transfer const& t = c.at(n);
        if (t.held == 0 || t.is_over()) continue;
        if (held == 0 || t.held < held) oldest = {c.handle, n}, held = t.held;
        break;
      }
    });
    if (held != watched_) since_ = now;
    else if (now - looked_ > std::chrono::seconds(1)) since_ += now - looked_;  // the host did something else
    watched_ = held;
    looked_ = now;
    if (held != 0 && guarded.is_late(now - since_)) guarded.fail_late(" on its device", of.missing(oldest));
  }

 private:
  std::uint64_t watched_ = 0;  // the hold that the device may be at
  clock::time_point since_{}, looked_{};
};

}  // namespace pipewright::inline v0::nccl::detail
