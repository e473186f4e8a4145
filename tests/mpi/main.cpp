// SPDX-License-Identifier: Apache-2.0
// Every process of an mpirun runs all tests; one speaks, the others only where they fail. With PIPEWRIGHT_MPI_THREADS set to
// "funneled" MPI allows calls of one thread only.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string_view>

#include <doctest/doctest.h>

#include <pipewright/mpi/link.hpp>

int main(int argc, char** argv) {
  char const* const threads = std::getenv("PIPEWRIGHT_MPI_THREADS");
  bool const is_funneled = threads != nullptr && std::string_view(threads) == "funneled";
  pipewright::mpi::environment const mpi(is_funneled ? MPI_THREAD_FUNNELED : MPI_THREAD_MULTIPLE);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  std::ostringstream unheard;
  doctest::Context context(argc, argv);
  if (rank != 0) context.setCout(&unheard);
  int const failed = context.run();
  int any = 0;
  MPI_Allreduce(&failed, &any, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  if (rank != 0 && failed != 0) std::fprintf(stderr, "rank %d:\n%s\n", rank, unheard.str().c_str());
  pipewright::mpi::detail::is_broken = false;  // tests stop ranks on purpose
  return any;
}
