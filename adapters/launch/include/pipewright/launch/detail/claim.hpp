// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/launch/detail/reader.hpp>
#include <pipewright/launch/place.hpp>
#include <pipewright/launch/slurm.hpp>

namespace pipewright::inline v0::launch::detail {

/// What one source says. It is never half of it.
struct claim {
  source from;
  bool by_hand;  ///< said by a person or a script, not by a launcher about a process that it started
  said<int> rank, size;
  std::optional<int> local_rank, local_size;
};

/// Throws unless both are there or neither, and rank < size.
inline bool is_pair(std::optional<said<int>> const& rank, std::string const& rank_name,
                    std::optional<said<int>> const& size, std::string const& size_name) {
  if (rank.has_value() != size.has_value())
    throw error((rank ? rank : size)->by + " is given but " + (rank ? size_name : rank_name) +
                " is not: give both or neither");
  if (rank && rank->value >= size->value) throw error(rank->by + " is not below " + size->by + ": ranks count from 0");
  return rank.has_value();
}

/// The claim of four numbers, if any.
inline std::optional<claim> claim_of(source from, bool by_hand, std::optional<said<int>> const& rank,
                                     std::string const& rank_name, std::optional<said<int>> const& size,
                                     std::string const& size_name, std::optional<said<int>> const& local_rank,
                                     std::optional<said<int>> const& local_size) {
  if (!is_pair(rank, rank_name, size, size_name)) return std::nullopt;
  if (local_rank && local_size) is_pair(local_rank, "", local_size, "");
  if (local_rank) is_pair(local_rank, "", size, "");
  if (local_size && local_size->value > size->value)
    throw error(local_size->by + " is above " + size->by + ": a machine has at most all ranks");
  claim result{from, by_hand, *rank, *size, std::nullopt, std::nullopt};
  if (local_rank) result.local_rank = local_rank->value;
  if (local_size) result.local_size = local_size->value;
  return result;
}

inline std::optional<claim> claim_of(arguments const& given) {
  auto said_by = [](std::optional<int> value, std::string const& name, int low) -> std::optional<said<int>> {
    if (!value) return std::nullopt;
    return in_range(*value, "argument " + name + "=" + std::to_string(*value), low, any_number);
  };
  return claim_of(source::arguments, true, said_by(given.rank, "rank", 0), "argument rank",
                  said_by(given.size, "size", 1), "argument size", said_by(given.local_rank, "local_rank", 0),
                  said_by(given.local_size, "local_size", 1));
}

inline std::optional<claim> claim_of(reader const& read, source from, bool by_hand, std::string const& rank,
                                     std::string const& size, std::string const& local_rank,
                                     std::string const& local_size) {
  return claim_of(from, by_hand, read.integer(rank), rank, read.integer(size, 1), size, read.integer(local_rank),
                  read.integer(local_size, 1));
}

inline std::optional<claim> claim_of_pmi(reader const& read) {
  // PMIx sets a rank and no size: alone it is not a claim (find_place says so where nobody else has one).
  if (!read.is_set("PMI_RANK") && !read.is_set("PMI_SIZE")) return std::nullopt;
  return claim_of(read, source::mpich, false,
                  read.is_set("PMI_RANK") || !read.is_set("PMIX_RANK") ? "PMI_RANK" : "PMIX_RANK", "PMI_SIZE",
                  "MPI_LOCALRANKID", "MPI_LOCALNRANKS");
}

/// Only of a process that srun started: a shell in an allocation and a batch script are one process, whatever number of
/// tasks was asked for.
inline std::optional<claim> claim_of_slurm(reader const& read) {
  if (!read.is_set("SLURM_STEP_ID") && !read.is_set("SLURM_STEP_NODELIST") && !read.is_set("SLURM_STEP_NUM_TASKS"))
    return std::nullopt;
  auto const* const size = read.is_set("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
  auto result = claim_of(read, source::slurm, false, "SLURM_PROCID", size, "SLURM_LOCALID", "");
  if (!result) return result;
  for (auto const* const name : {"SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE"}) {
    // What was asked for may stand in these instead of what was given, so they are taken where they fit.
    auto const text = read.text(name);
    auto const node = read.integer("SLURM_NODEID");
    auto const tasks = text && node
                           ? slurm::tasks_on_node(*text, text->find_first_of(",(") == text->npos ? 0 : node->value)
                           : std::nullopt;
    if (tasks && result->local_rank.value_or(0) < *tasks && *tasks <= result->size.value) {
      result->local_size = tasks;
      break;
    }
  }
  return result;
}

/// Whether `lower` tells of another process than this one: of the script, the shell or the launcher in which `upper`
/// started it. Then the two may differ.
inline bool hides(claim const& upper, claim const& lower, bool in_slurm) {
  if (lower.by_hand) return false;
  if (lower.size.value == 1) return true;                             // srun -n 1, mpirun -n 1: a shell
  if (upper.from == source::torchrun && !upper.by_hand) return true;  // srun torchrun, a torchrun a node
  if (upper.from != source::open_mpi && upper.from != source::mpich) return false;
  return lower.from == source::slurm || in_slurm;  // mpirun has its daemons started by srun
}

/// What everybody says of this process, in the order of `source`, without those who tell of another one.
inline std::vector<claim> claims(reader const& read, arguments const& given) {
  bool const torchrun_by_hand = !read.is_set("TORCHELASTIC_RUN_ID");
  auto const slurm = claim_of_slurm(read);
  std::vector<claim> all;
  for (auto const& one :
       {claim_of(given),
        claim_of(read, source::variables, true, "PIPEWRIGHT_RANK", "PIPEWRIGHT_SIZE", "PIPEWRIGHT_LOCAL_RANK",
                 "PIPEWRIGHT_LOCAL_SIZE"),
        claim_of(read, source::torchrun, torchrun_by_hand, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
        claim_of(read, source::open_mpi, false, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                 "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
        claim_of_pmi(read), slurm})
    if (one) all.push_back(*one);
  std::vector<claim> visible;
  for (auto const& lower : all) {
    bool hidden = false;
    for (auto const& upper : all) {
      if (&upper == &lower) break;
      hidden = hidden || hides(upper, lower, slurm.has_value());
    }
    if (!hidden) visible.push_back(lower);
  }
  return visible;
}

}  // namespace pipewright::inline v0::launch::detail
