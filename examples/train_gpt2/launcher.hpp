// SPDX-License-Identifier: Apache-2.0
// What a launcher says of this process needs no option.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include <pipewright/error.hpp>
#include <pipewright/launch/launch.hpp>

namespace trainer {

/// Gives --transport and --ranks, where they were not said, what the launcher of several processes means: mpirun mpi, torchrun
/// and its like gloo, and a rank for each process. srun may mean either, so that it needs the option. Throws error where the
/// environment contradicts itself.
inline void take_launcher(CLI::App& app) {
  namespace launch = pipewright::launch;
  using enum launch::source;
  auto &transport = *app.get_option("--transport"), &ranks = *app.get_option("--ranks");
  bool const is_said = transport.count() > 0;
  if ((is_said && (ranks.count() > 0 || transport.results().front() == "in-process")) || app.count("--rank") > 0 ||
      app.count("--dry-run") > 0)
    return;
  launch::place place;
  try {
    place = launch::find_place();
  } catch (pipewright::error const& fault) {
    if (is_said) throw;
    throw pipewright::error(std::string(fault.what()) + "; or say --transport in-process");
  }
  if (place.from == single || (!is_said && (place.size == 1 || place.from == slurm))) return;
  auto const take = [](CLI::Option& option, std::string const& word) {
    if (option.count() > 0) return;
    option.add_result(word);
    option.run_callback();
  };
  take(transport, place.from == open_mpi || place.from == mpich ? "mpi" : "gloo");
  take(ranks, std::to_string(place.size));
}

}  // namespace trainer
