// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>

namespace pipewright::inline v0 {

/// What lies between two ranks: a value takes latency + bytes / bandwidth, in either direction.
struct device_link {
  int from, to;
  double latency = 0;                                          ///< seconds
  double bandwidth = std::numeric_limits<double>::infinity();  ///< bytes a second
};

/// The devices of a pipeline, a rank each, and the links between them.
struct cluster {
  int ranks = 1;
  double memory = std::numeric_limits<double>::infinity();     ///< bytes that a rank may use
  double bandwidth = std::numeric_limits<double>::infinity();  ///< bytes a second, of every link and direction
  double latency = 0;                                          ///< seconds
  std::vector<double> pace{};  ///< by rank: it takes so many times as long as the profile says; empty: 1
  /// Those that differ from the others, each pair of ranks once; those of ranks that are not there count for nothing.
  std::vector<device_link> links{};

  /// Between two ranks, whichever sends. Linear in `links`.
  device_link link_between(int a, int b) const {
    for (auto const& each : links)
      if ((each.from == a && each.to == b) || (each.from == b && each.to == a)) return each;
    return {a, b, latency, bandwidth};
  }
  double pace_of(int rank) const { return pace.empty() ? 1 : pace[static_cast<std::size_t>(rank)]; }
  /// How many devices of pace 1 do as much.
  double devices() const {
    if (pace.empty()) return ranks;
    double sum = 0;
    for (double const each : pace) sum += 1 / each;
    return sum;
  }
};

/// Throws error unless the numbers are those of a cluster.
inline void check(cluster const& c) {
  if (c.ranks < 1) throw error("a cluster has at least one rank, not " + std::to_string(c.ranks));
  if (!(c.memory > 0)) throw error("a rank of a cluster has more than 0 bytes of memory");
  auto const check_speed = [](double latency, double bandwidth) {
    if (!(bandwidth > 0)) throw error("a cluster's links carry more than 0 bytes a second");
    if (!(latency >= 0 && latency < std::numeric_limits<double>::infinity()))
      throw error("a cluster's links have a latency of 0 seconds or more");
  };
  check_speed(c.latency, c.bandwidth);
  std::set<std::pair<int, int>> joined;
  for (auto const& [from, to, latency, bandwidth] : c.links) {
    check_speed(latency, bandwidth);
    if (from < 0 || to < 0 || from == to)
      throw error("a cluster's link joins two different ranks, not " + std::to_string(from) + " and " +
                  std::to_string(to));
    if (!joined.insert(std::minmax(from, to)).second)
      throw error("a cluster has one link between ranks " + std::to_string(from) + " and " + std::to_string(to) +
                  ", not several");
  }
  if (!c.pace.empty() && static_cast<int>(c.pace.size()) != c.ranks)
    throw error("a cluster of " + std::to_string(c.ranks) + " ranks has a pace for each of them or none, not " +
                std::to_string(c.pace.size()));
  for (double const each : c.pace)
    if (!(each > 0 && each < std::numeric_limits<double>::infinity())) throw error("a rank's pace is more than 0");
}

}  // namespace pipewright::inline v0
