// SPDX-License-Identifier: Apache-2.0
#pragma once
// What ranks hold after training, against what was predicted.

#include <cstddef>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/partition/rank_memory.hpp>
#include <pipewright/pipeline/bytes.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/stage/stage_set.hpp>
#include <pipewright/transport/in_process.hpp>

namespace support {

/// Of every rank of a plan, whose stages recompute as it does, after six steps, drained.
std::vector<pipewright::pipeline_bytes> held_bytes(pipewright::plan_view plan, auto const& stages, auto const& batch,
                                                   auto const& optimizer) {
  std::vector<pipewright::pipeline_bytes> held(static_cast<std::size_t>(plan.facts.ranks));
  pipewright::in_process::run(plan.facts.ranks, [&](auto& here) {
    auto training =
        pipewright::pipeline(plan, pipewright::recompute_each(stages, plan.wants.recompute), here, optimizer);
    for (int step = 0; step < 6; ++step) training.step(batch);
    training.drain();
    held[static_cast<std::size_t>(here.rank())] = training.bytes();
  });
  return held;
}

/// `uncounted`: bytes of activations that a rank may hold beyond what was predicted.
inline void check_held(std::vector<pipewright::rank_memory> const& predicted,
                       std::vector<pipewright::pipeline_bytes> const& held, double uncounted = 0) {
  REQUIRE(predicted.size() == held.size());
  for (std::size_t r = 0; r < held.size(); ++r) {
    CAPTURE(r);
    CHECK(predicted[r].weights == static_cast<double>(held[r].weights));
    CHECK(predicted[r].gradients == static_cast<double>(held[r].gradients));
    CHECK(predicted[r].optimizer == static_cast<double>(held[r].optimizer));
    CHECK(static_cast<double>(held[r].activations) >= predicted[r].activations);
    CHECK(static_cast<double>(held[r].activations) <= predicted[r].activations + uncounted);
    CHECK(predicted[r].boundaries == static_cast<double>(held[r].inputs + held[r].targets + held[r].boundaries));
  }
}

}  // namespace support
