// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <set>
#include <string_view>
#include <vector>

#include <pipewright/schedule/shape.hpp>

/// The closed formulas of the papers, and what a few of them count, written from their definitions.
namespace support::formulas {

using pipewright::shape;

/// Bubble of the global span in rank times, as multiples: of (t_f + t_b) for schedules that train, of t_f for forward-only,
/// times V so that it is whole. `s` is complete; a stream is one batch after another without a flush.
inline long long bubble_times_chunks(std::string_view schedule, shape s) {
  long long const p = s.ranks, m = s.total_micro_batches(), v = s.chunks;
  if (schedule == "sequential") return (p - 1) * m;
  if (schedule == "interleaved" || schedule == "forward-only") return m >= p ? p - 1 : p - 1 + (p - m) * (v - 1);
  return p - 1;
}

/// Most (micro-batch, chunk) pairs between forward and the end of backward on a rank.
inline int peak_in_flight(std::string_view schedule, shape s, int rank) {
  int const m = s.total_micro_batches();
  if (schedule == "sequential") return 1;
  if (schedule == "gpipe") return m;
  if (schedule == "interleaved") return std::min(m * s.chunks, (s.chunks - 1) * s.group + 2 * (s.ranks - 1 - rank) + 1);
  return std::min(m, s.ranks - rank);
}

/// Distinct weight versions that micro-batches in flight or yet to come need, plus the newest, at the worst moment of a
/// 1F1B stream of `micro_batches` that reads version max(0, m - delay) and updates after every backward; counted.
inline int peak_versions_of_a_stream(int micro_batches, int delay) {
  int peak = 1;
  for (int newest = 1; newest <= micro_batches; ++newest) {  // micro-batches below `newest` are finished
    std::set<int> kept{newest};
    for (int m = newest; m < micro_batches; ++m)
      if (int const reads = std::max(0, m - delay); reads <= newest) kept.insert(reads);
    if (newest < micro_batches) peak = std::max(peak, static_cast<int>(kept.size()));
  }
  return peak;
}

/// The same for 2BW: version max(0, m / M - 1), an update per batch.
inline int peak_versions_double_buffered(shape s) {
  int peak = 1;
  int const total = s.total_micro_batches();
  for (int newest = 1; newest <= s.batches; ++newest) {
    std::set<int> kept{newest};
    for (int m = newest * s.micro_batches; m < total; ++m)
      if (int const reads = std::max(0, m / s.micro_batches - 1); reads <= newest) kept.insert(reads);
    if (newest < s.batches) peak = std::max(peak, static_cast<int>(kept.size()));
  }
  return peak;
}

}  // namespace support::formulas
