// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0::gpt2::host {

using token_ids = std::vector<std::int32_t>;

inline void place(std::span<std::int32_t const> ids, token_ids& to, bool) { to.assign(ids.begin(), ids.end()); }

/// The sum in double precision, in order.
inline auto total_loss(float const* losses, std::size_t count, int) -> loss {
  loss total;
  for (std::size_t i = 0; i < count; ++i) total.value += losses[i];
  return total;
}

}  // namespace pipewright::inline v0::gpt2::host
