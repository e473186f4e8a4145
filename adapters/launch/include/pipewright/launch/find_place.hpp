// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/launch/detail/claim.hpp>
#include <pipewright/launch/detail/meeting.hpp>
#include <pipewright/launch/detail/reader.hpp>
#include <pipewright/launch/place.hpp>

namespace pipewright::inline v0::launch {

/// Which process this is, in an environment: the first of `source` that says a rank and a size is taken, and whoever
/// else says them of this process must say the same. A launcher that started this process's own launcher, or one process
/// only, may say something else (`srun torchrun`, `mpirun` in a batch job).
/// Depends on its arguments and nothing else. Throws pipewright::error where a variable is malformed, comes without its
/// other half, or two contradict one another: the sentence quotes them.
inline place find_place(environment const& variables, arguments const& given = {}) {
  detail::reader const read(variables);
  auto const claims = detail::claims(read, given);
  place here;
  if (claims.empty()) {
    if (auto const rank = read.text("PMIX_RANK"))
      throw error("PMIX_RANK=" + *rank +
                  " names a rank, but nothing says how many there are: start the program with mpirun, or set "
                  "PIPEWRIGHT_RANK and PIPEWRIGHT_SIZE");
    here.local_rank = 0;
    here.local_size = 1;
  } else {
    auto const& chosen = claims.front();
    for (auto const& other : claims) {
      std::string differences;
      auto compare = [&](detail::said<int> const& a, detail::said<int> const& b) {
        if (a.value != b.value) differences += (differences.empty() ? "" : ", ") + a.by + " contradicts " + b.by;
      };
      compare(chosen.rank, other.rank);
      compare(chosen.size, other.size);
      if (!differences.empty())
        throw error(differences + ": start the program with one launcher, and unset what another one or a script left");
    }
    here.from = chosen.from;
    here.rank = chosen.rank.value;
    here.size = chosen.size.value;
    for (auto const& c : claims) {
      if (!here.local_rank) here.local_rank = c.local_rank;
      if (!here.local_size) here.local_size = c.local_size;
    }
    if (here.local_rank && here.local_size && *here.local_rank >= *here.local_size)
      throw error("local rank " + std::to_string(*here.local_rank) + " of one source is not below local size " +
                  std::to_string(*here.local_size) + " of another: start the program with one launcher");
    if (here.size == 1) {
      here.local_rank = 0;
      here.local_size = 1;
    }
  }
  detail::set_rendezvous(here, read, given, claims);
  return here;
}

/// The same in this process's environment.
inline place find_place(arguments const& given = {}) {
  return find_place(
      [](std::string const& name) -> std::optional<std::string> {
        auto const* const value = std::getenv(name.c_str());
        return value == nullptr ? std::nullopt : std::optional<std::string>(value);
      },
      given);
}

}  // namespace pipewright::inline v0::launch
