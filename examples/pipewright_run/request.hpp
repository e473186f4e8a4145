// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace runner {

/// What the command line asks for. Times in seconds.
struct request {
  int ranks = 0;
  std::optional<double> deadline = {};  ///< of the whole run
  double grace = 5;                     ///< from the first failure to SIGTERM, and from there to SIGKILL
  double stop = 30;                     ///< from SIGINT or SIGTERM to SIGKILL
  bool tag_output = false;
  std::vector<std::string> command = {};  ///< program and arguments
};

/// Exit codes that are not a rank's, by the conventions of timeout(1), env(1) and sysexits.
enum exit_code { refused = 2, lost_output = 74, over_deadline = 124, not_executable = 126, not_found = 127 };

}  // namespace runner
