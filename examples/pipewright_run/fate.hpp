// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include <sys/wait.h>

namespace runner {

/// How a process ended.
struct fate {
  int code = 0;  ///< CLD_EXITED, or CLD_KILLED or CLD_DUMPED
  int status = 0;

  bool is_signal() const { return code != CLD_EXITED; }
  bool is_failure() const { return is_signal() || status != 0; }
  int exit_code() const { return is_signal() ? 128 + status : status; }
  /// Of several that failed at about the same time: a crash comes before an exit code, which comes before a broken pipe.
  int weight() const { return !is_signal() ? 1 : status == SIGPIPE ? 0 : 2; }

  std::string text() const {
    if (!is_signal()) return "ended with status " + std::to_string(status);
    return "was killed by signal " + std::to_string(status) + " (" + strsignal(status) + ")";
  }
};

/// "rank 2", "ranks 0, 1 and 3"; of many the first few.
inline std::string names_of(std::vector<int> const& ranks) {
  constexpr std::size_t most = 8;
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) text += i + 1 == ranks.size() || i == most ? " and " : ", ";
    if (i == most && i + 1 < ranks.size()) return text + std::to_string(ranks.size() - most) + " more";
    text += std::to_string(ranks[i]);
  }
  return text;
}

inline std::string seconds(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", value);
  return text;
}

}  // namespace runner
