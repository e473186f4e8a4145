// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

/// Which process of a job this one is, and where its ranks meet.
namespace pipewright::inline v0::launch {

/// Who says which rank a process is, in the order in which they are asked.
enum class source {
  arguments,  ///< the program's own, say --rank 1 --size 4
  variables,  ///< PIPEWRIGHT_RANK and its like
  torchrun,   ///< also pipewright-run, and whoever sets RANK and WORLD_SIZE
  open_mpi,
  mpich,  ///< and all that speak PMI: Intel MPI, srun --mpi=pmi2
  slurm,  ///< srun
  single  ///< nobody: one process
};

/// What the user says, each of it or nothing; rank and size only together.
struct arguments {
  std::optional<int> rank = {}, size = {};
  std::optional<int> local_rank = {}, local_size = {};
  std::optional<std::string> address = {};
  std::optional<int> port = {};
  std::optional<std::string> run_id = {};
};

/// One process of a job.
struct place {
  int rank = 0, size = 1;  ///< 0 <= rank < size
  std::optional<int> local_rank,
      local_size = {};       ///< among the job's processes on this machine, where somebody says it
  std::string address = {};  ///< the host on which ranks meet, usually rank 0's; empty: not said
  int port = 0;              ///< there; 0 if and only if address is empty
  std::string run_id = {};   ///< tells runs apart that meet at one address; may be empty
  /// Somebody already serves a c10d store at address and port (torchrun's agent): rank 0 must not bind that port.
  bool store_is_served = false;
  source from = source::single;  ///< who said rank and size

  /// Whether address and port are known. Where they are not, ranks meet by their launcher's own means (MPI_Bcast).
  bool has_rendezvous() const { return port != 0; }

  friend bool operator==(place const&, place const&) = default;
};

}  // namespace pipewright::inline v0::launch
