// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace pipewright::inline v0 {

/// Which micro-batches of a batch run their forward a second time, right before their backward, instead of keeping what
/// it saved (torchgpipe's checkpoint modes).
enum class recompute_mode : std::uint8_t {
  never,        ///< every micro-batch keeps its saved values
  except_last,  ///< all but the last micro-batch of a batch, whose backward comes at once (torchgpipe's default)
  always,       ///< all of them
};

/// All modes, for loops over them.
inline constexpr recompute_mode recompute_modes[]{recompute_mode::never, recompute_mode::except_last,
                                                  recompute_mode::always};

}  // namespace pipewright::inline v0
