// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include <sched.h>
#include <sys/types.h>

namespace pipewright::inline v0::gloo::detail {

/// The threads by which Gloo moves bytes, and whether they take a core from who runs there when they wake. To move anything
/// under a rank that computes, they have to. But where they preempt a rank in the midst of a send, they try the lock that it
/// holds for the rest of their share: milliseconds in which nothing moves.
class network_threads {
 public:
  /// Those that start from here on.
  network_threads() : before_(all()) {}
  /// Called once Gloo has connected something, when its threads have their name. They are left as they are where there is no
  /// /proc to find them in, or the process was given another policy than the usual one.
  void find() {
    for (pid_t const each : all())
      if (std::ranges::find(before_, each) == before_.end() && name(each) == "gloo_tcp_loop" &&
          sched_getscheduler(each) == SCHED_OTHER)
        ids_.push_back(each);
  }
  void take_the_core(bool do_so) const noexcept {
    sched_param const none{};
    for (pid_t const each : ids_) sched_setscheduler(each, do_so ? SCHED_OTHER : SCHED_BATCH, &none);
  }

 private:
  static std::vector<pid_t> all() {
    std::vector<pid_t> ids;
    std::error_code is_absent;
    for (std::filesystem::directory_iterator each("/proc/self/task", is_absent), end; each != end;
         each.increment(is_absent)) {
      auto const text = each->path().filename().string();
      pid_t id = 0;
      if (std::from_chars(text.data(), text.data() + text.size(), id).ec == std::errc()) ids.push_back(id);
    }
    return ids;
  }
  static std::string name(pid_t id) {
    std::string text;
    std::ifstream("/proc/self/task/" + std::to_string(id) + "/comm") >> text;
    return text;
  }

  std::vector<pid_t> before_, ids_;
};

}  // namespace pipewright::inline v0::gloo::detail
