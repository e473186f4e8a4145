// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace pipewright::inline v0 {

/// Bytes that stages hold between steps, by what they are for.
struct pipeline_bytes {
  std::size_t weights = 0;      ///< all versions
  std::size_t gradients = 0;    ///< all accumulators
  std::size_t optimizer = 0;    ///< states
  std::size_t activations = 0;  ///< in all slots: what stages saved
  std::size_t inputs = 0;       ///< in all slots
  std::size_t targets = 0;      ///< in all slots
  /// In all slots: outputs to other ranks, those of second forwards, gradients of inputs and outputs.
  std::size_t boundaries = 0;

  /// All that micro-batches in flight take.
  std::size_t in_flight() const { return activations + inputs + targets + boundaries; }
  pipeline_bytes& operator+=(pipeline_bytes const& b) {
    weights += b.weights;
    gradients += b.gradients;
    optimizer += b.optimizer;
    activations += b.activations;
    inputs += b.inputs;
    targets += b.targets;
    boundaries += b.boundaries;
    return *this;
  }
};

}  // namespace pipewright::inline v0
