// SPDX-License-Identifier: Apache-2.0
// What a launcher says of this process needs no option.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include <pipewright/launch/launch.hpp>

namespace trainer {

/// Gives --transport and --ranks, where they were not said, what the launcher of several processes means: mpirun mpi, the others
/// gloo, and a rank for each process. Not where SLURM alone says it: its batch scripts, which start one process, have its
/// variables too.
inline void take_launcher(CLI::App& app) {
  namespace launch = pipewright::launch;
  auto& transport = *app.get_option("--transport");
  auto const take = [](CLI::Option& option, std::string const& word) {
    if (option.count() > 0) return;
    option.add_result(word);
    option.run_callback();
  };
  if (app.count("--rank") > 0 || (transport.count() > 0 && transport.results().front() == "in-process")) return;
  auto const place = launch::find_place();
  using enum launch::source;
  if (place.size < 2 || (place.from == slurm && transport.count() == 0)) return;
  take(transport, place.from == open_mpi || place.from == mpich ? "mpi" : "gloo");
  take(*app.get_option("--ranks"), std::to_string(place.size));
}

}  // namespace trainer
