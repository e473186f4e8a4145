// SPDX-License-Identifier: Apache-2.0
// What launchers send to the ranks that are left when one is lost: the program ends by itself and says where it was. SIGTERM, and
// from MPICH's `mpiexec -disable-auto-cleanup` SIGUSR1 (without that option it is SIGKILL, at once).
#pragma once

#include <atomic>
#include <csignal>

namespace trainer {

namespace detail {
inline std::atomic<bool> told_to_end = false;
static_assert(std::atomic<bool>::is_always_lock_free);  // a signal's handler may set it
}  // namespace detail

/// From now on these signals are noted. A second SIGTERM ends the program on the spot; SIGUSR1 does not: MPICH sends it again
/// for every rank that is lost, and the first may just be being told.
inline std::atomic<bool> const& note_signals() {
  struct sigaction how{};
  how.sa_handler = [](int which) {
    detail::told_to_end = true;
    if (which == SIGTERM) std::signal(which, SIG_DFL);
  };
  how.sa_flags = SA_RESTART;
  for (int const each : {SIGTERM, SIGUSR1}) sigaction(each, &how, nullptr);
  return detail::told_to_end;
}

/// From now on they do again what they always do; where one was noted, the program ends at last.
inline void obey_signals() {
  for (int const each : {SIGTERM, SIGUSR1}) std::signal(each, SIG_DFL);
  if (detail::told_to_end) std::raise(SIGTERM);
}

}  // namespace trainer
