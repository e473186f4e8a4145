// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <pipewright/launch/place.hpp>

namespace pipewright::inline v0::launch {

/// The variables with which torchrun tells a process its place, for jobs of one machine: find_place reads from them what
/// stands in `here`, as do PyTorch's programs. Needs an address, a port and a run id.
inline std::vector<std::pair<std::string, std::string>> torchrun_variables(place const& here) {
  return {{"RANK", std::to_string(here.rank)},
          {"WORLD_SIZE", std::to_string(here.size)},
          {"LOCAL_RANK", std::to_string(here.local_rank.value_or(here.rank))},
          {"LOCAL_WORLD_SIZE", std::to_string(here.local_size.value_or(here.size))},
          {"GROUP_RANK", "0"},
          {"GROUP_WORLD_SIZE", "1"},
          {"MASTER_ADDR", here.address},
          {"MASTER_PORT", std::to_string(here.port)},
          {"TORCHELASTIC_RUN_ID", here.run_id},
          {"TORCHELASTIC_USE_AGENT_STORE", here.store_is_served ? "True" : "False"}};
}

}  // namespace pipewright::inline v0::launch
