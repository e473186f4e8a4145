// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <pipewright/stage/random.hpp>

namespace pipewright::inline v0 {

/// Where and when a stage runs. An adapter may pass a richer type (a CUDA stream, say): stages take `auto&`.
struct stage_context {
  int rank = 0;
  int stage = 0;        ///< global index, 0..S-1
  int layer = 0;        ///< global index of the stage's (or, inside a chain, the layer's) first layer, whatever the cut
  int micro_batch = 0;  ///< within the step, 0..M-1
  std::int64_t step = 0;     ///< since the start of training; under an asynchronous schedule too
  int replica = 0;           ///< data-parallel copy
  bool training = true;      ///< false in evaluation: no dropout
  bool recomputing = false;  ///< this forward is run a second time for its saved values
  bool saves = true;         ///< false in a training's forward that will be run again: what it saves is not read
  std::uint64_t seed = 0;

  /// Random numbers keyed by (seed, step, micro-batch, layer): the same under every schedule, cut and recomputation.
  constexpr keyed_random random() const {
    return {.seed = seed, .step = step, .micro_batch = micro_batch + (replica << 24), .layer = layer};
  }
};

}  // namespace pipewright::inline v0
