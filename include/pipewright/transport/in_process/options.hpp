// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string_view>

namespace pipewright::inline v0::in_process {

/// When a transfer sets out. `strict` is a rendezvous: when both its send and its post are there. `buffered`: at its
/// send, as over a network that takes what it is given. Under both a send is complete when it has met its post.
enum class transfer_mode { strict, buffered };
using enum transfer_mode;

/// What lies between two ranks, for tests and what-if runs. A transfer occupies its edge for bytes / bandwidth, one
/// after the other, and lands latency later.
struct link {
  double latency = 0;                                          ///< seconds
  double bandwidth = std::numeric_limits<double>::infinity();  ///< bytes per second
};

/// Prints the sentence to stderr and ends the process with exit code 70 (EX_SOFTWARE), running no destructors.
[[noreturn]] inline void end_process(std::string_view sentence) {
  std::fprintf(stderr, "pipewright: %.*s\n", static_cast<int>(sentence.size()), sentence.data());
  std::fflush(stderr);
  std::_Exit(70);
}

/// How the ranks of one process are joined.
struct options {
  transfer_mode mode = strict;
  double latency = 0;                                                  ///< seconds, of every edge
  double bandwidth = std::numeric_limits<double>::infinity();          ///< bytes per second, of every edge
  std::function<link(int source, int destination)> link_between = {};  ///< if given, instead of the two above
  double deadline = 60;  ///< seconds that any wait may take before it fails; 0: for ever
  /// Seconds that the other ranks have to return once one has failed; negative: as many as the deadline.
  double grace = -1;
  /// Called by run() when a rank does not return within the grace. Nothing can free its thread, so this ends the
  /// process; if it returns, end_process does.
  void (*on_hang)(std::string_view sentence) = end_process;
};

}  // namespace pipewright::inline v0::in_process
