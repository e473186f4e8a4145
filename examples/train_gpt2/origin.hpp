// SPDX-License-Identifier: Apache-2.0
// Where a training starts.
#pragma once

#include <optional>

#include <pipewright/gpt2/saved_training.hpp>
#include <pipewright/safetensors/checkpoint.hpp>

#include "request.hpp"

namespace trainer {

/// Where a training starts: from drawn weights, from those of a file, or where another was saved.
struct origin {
  std::optional<pw::safetensors::checkpoint> file{};
  std::optional<gpt2::saved_training> saved{};

  int steps() const { return saved ? static_cast<int>(saved->record().steps) : 0; }
};

}  // namespace trainer
