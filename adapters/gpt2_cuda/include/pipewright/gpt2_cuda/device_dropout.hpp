// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <pipewright/gpt2/dropout.hpp>

namespace pipewright::inline v0::gpt2::cuda {

/// A mask as kernels get it. Of its key only the step changes from step to step: that lies in memory, so that a launch is the same in
/// all of them (see pipewright::cuda::step_graph).
struct device_dropout {
  keyed_dropout key{};                 ///< all but the step, which is 0
  std::int64_t const* step = nullptr;  ///< on the device

  constexpr device_dropout() = default;
  constexpr device_dropout(keyed_dropout const& of, std::int64_t const* step_of_it) : key{of}, step{step_of_it} {
    key.random.step = 0;
  }
  constexpr explicit operator bool() const noexcept { return static_cast<bool>(key); }

  /// In a kernel: the mask of this step. Reads nothing where nothing is dropped; costs one Philox block where something is.
  constexpr auto now() const -> dropout {
    if (!key) return {};
    keyed_dropout mask = key;
    mask.random.step = *step;
    return mask;
  }
};
// Launches are compared byte by byte.
static_assert(sizeof(device_dropout) == sizeof(keyed_random) + sizeof(dropout_site) + sizeof(float) + sizeof(void*));

}  // namespace pipewright::inline v0::gpt2::cuda
