// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/event.hpp>

namespace pipewright::inline v0::cuda {

/// Which of several ways to do the same takes the device the least time, and of equals the first: queue(i) queues the i-th on the
/// context's stream. All are run a few times, the best four of those some more. The host waits; not while work is written down.
std::size_t fastest(context& where, std::size_t ways, auto const& queue) {
  event begin(true), end(true);
  std::vector<float> took(ways);
  std::vector<std::size_t> left(ways);
  std::iota(left.begin(), left.end(), std::size_t{0});
  auto const best = [&](std::size_t count, int runs) {
    for (std::size_t const way : left) {
      queue(way);  // what is first is slower
      begin.record(where.stream());
      for (int i = 0; i < runs; ++i) queue(way);
      end.record(where.stream());
      where.wait(end);
      took[way] = end.milliseconds_since(begin);
    }
    std::ranges::sort(left, [&](auto a, auto b) { return took[a] != took[b] ? took[a] < took[b] : a < b; });
    left.resize(std::min(left.size(), count));
  };
  best(4, 2);
  best(1, 5);
  return left.front();
}

}  // namespace pipewright::inline v0::cuda
