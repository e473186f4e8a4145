// SPDX-License-Identifier: Apache-2.0
#pragma once
// The most that ranks had taken from counted allocators at one time, against what was predicted.

#include <cmath>
#include <cstddef>
#include <vector>

#include <doctest/doctest.h>
#include <support/counted_bytes.hpp>

#include <pipewright/partition/rank_memory.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/stage/recompute.hpp>
#include <pipewright/transport/in_process.hpp>

namespace support {

/// Of every rank of a plan that recomputes by that mode, in two steps after the first: until then stages may keep first weights.
template<pipewright::recompute_mode Mode>
std::vector<double> most_bytes(pipewright::plan_view plan, auto const& make_stages, auto const& batch,
                               auto const& optimizer) {
  std::vector<double> most(static_cast<std::size_t>(plan.facts.ranks));
  pipewright::in_process::run(plan.facts.ranks, [&](auto& here) {
    counted_bytes::taker = static_cast<std::size_t>(here.rank()) + 1;
    auto const before = counted_bytes::now();
    auto const stages = [&] {
      if constexpr (Mode == pipewright::recompute_mode::never) return make_stages();
      else return pipewright::recompute_each<Mode>(make_stages());
    }();
    auto training = pipewright::pipeline(plan, stages, here, optimizer);
    training.step(batch);
    counted_bytes::restart();
    for (int step = 0; step < 2; ++step) training.step(batch);
    training.drain();
    most[static_cast<std::size_t>(here.rank())] = static_cast<double>(counted_bytes::most() - before);
  });
  return most;
}

/// To 5 %.
inline void check_most(std::vector<pipewright::rank_memory> const& predicted, std::vector<double> const& most) {
  REQUIRE(predicted.size() == most.size());
  for (std::size_t r = 0; r < most.size(); ++r) {
    CAPTURE(r);
    CAPTURE(predicted[r].total());
    CAPTURE(most[r]);
    CHECK(std::abs(predicted[r].total() - most[r]) <= 0.05 * most[r]);
  }
}

}  // namespace support
