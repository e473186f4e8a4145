// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <exception>
#include <string>
#include <vector>

#include <pipewright/mpi/link.hpp>

namespace support {

/// What one rank says ended it, for all: empty texts for those that came to their end.
inline std::string first_fault(std::string const& own) {
  using text = std::array<char, 2048>;
  text mine{};
  own.copy(mine.data(), mine.size() - 1);
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  std::vector<text> all(static_cast<std::size_t>(size));
  MPI_Allgather(mine.data(), static_cast<int>(mine.size()), MPI_CHAR, all.data(), static_cast<int>(mine.size()),
                MPI_CHAR, MPI_COMM_WORLD);
  for (auto const& each : all)
    if (each[0] != '\0') return each.data();
  return {};
}

/// Runs f(endpoint&) on the first `ranks` processes; throws on all processes what one of them threw.
template<class Link = pipewright::mpi::link, class F> void run_over_mpi(int ranks, F&& f, double deadline = 60) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm some = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, rank < ranks ? 0 : MPI_UNDEFINED, rank, &some);
  std::string fault;
  if (rank < ranks) {
    Link over(some);
    pipewright::wire::endpoint<Link> here(over, {.deadline = deadline});
    try {
      f(here);
    } catch (std::exception const& e) {
      here.abort(e.what());
    }
    try {
      here.progress();
    } catch (std::exception const& told) {  // all were stopped
      fault = told.what();
    }
  }
  if (some != MPI_COMM_NULL) MPI_Comm_free(&some);
  if (auto const first = first_fault(fault); !first.empty()) throw pipewright::error(first);
}

}  // namespace support
