// SPDX-License-Identifier: Apache-2.0
// Ranks that are the processes of an mpirun.
#pragma once

#include <vector>

#include <fmt/format.h>

#include <pipewright/error.hpp>
#include <pipewright/mpi/link.hpp>

#include "processes.hpp"

namespace trainer {

/// Outlives whatever says what went wrong: at its end it ends a job that was stopped.
class mpi_processes final : public processes {
 public:
  explicit mpi_processes(request const& r) {
    if (over_.size() != r.ranks)
      throw pw::error(
          fmt::format("mpirun started {} process{}, but --ranks is {}; start as many: mpirun -np {} train_gpt2 ...",
                      over_.size(), over_.size() == 1 ? "" : "es", r.ranks, r.ranks));
  }
  int rank() const override { return over_.rank(); }
  std::vector<share> run(request const& r, pw::plan_view, part const& part_of) const override {
    return run_over(over_, r, part_of);
  }

 private:
  pw::mpi::environment mpi_;
  mutable pw::mpi::link over_;
};

}  // namespace trainer
