// SPDX-License-Identifier: Apache-2.0
// Ranks that are the processes of an mpirun.
#pragma once

#include <vector>

#include <pipewright/mpi/link.hpp>

#include "processes.hpp"

namespace trainer {

/// Outlives whatever says what went wrong: at its end it ends a job that was stopped.
class mpi_processes final : public processes {
 public:
  explicit mpi_processes(request const& r) : ranks_here_(on_this_machine()) {
    check_started(over_.size(), r, "mpirun -np");
  }
  /// Others would wait for one that failed before they met, while it waited for them in MPI_Finalize.
  ~mpi_processes() override {
    if (!has_run_) over_.note_stop();
  }
  int rank() const override { return over_.rank(); }
  std::vector<int> ranks_here(int) const override { return ranks_here_; }
  std::vector<share> run(request const& r, pw::plan_view, part const& part_of) const override {
    auto shares = run_over(over_, r, part_of);
    has_run_ = true;
    return shares;
  }

 private:
  static std::vector<int> on_this_machine() {
    MPI_Comm here = MPI_COMM_NULL;
    int rank = 0, size = 1;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here);
    MPI_Comm_size(here, &size);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    std::vector<int> all(static_cast<std::size_t>(size));
    MPI_Allgather(&rank, 1, MPI_INT, all.data(), 1, MPI_INT, here);
    MPI_Comm_free(&here);
    return all;
  }

  pw::mpi::environment mpi_;
  mutable pw::mpi::link over_;
  std::vector<int> ranks_here_;
  mutable bool has_run_ = false;
};

}  // namespace trainer
