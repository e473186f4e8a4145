// SPDX-License-Identifier: Apache-2.0
// Next to MPI alone, whose bytes move only while somebody calls it.
//   mpirun -np 2 overlap_over_mpi --repeats N
#include <pipewright/mpi/link.hpp>

#include "overlap.hpp"

int main(int argc, char** argv) {
  namespace pw = pipewright;
  pw::mpi::environment const mpi;
  try {
    int const repeats = benchmarks::command_line(argc, argv).number("repeats");
    pw::mpi::link over;
    std::vector<double> ours;
    {
      pw::mpi::endpoint here(over);
      ours = benchmarks::seconds_left(repeats, here);
    }
    int const rank = over.rank(), bytes = static_cast<int>(benchmarks::overlap_bytes);
    std::vector<char> value(benchmarks::overlap_bytes);
    MPI_Request request = MPI_REQUEST_NULL;
    auto const bare = benchmarks::seconds_left(
        repeats, [] { MPI_Barrier(MPI_COMM_WORLD); },
        [&] {
          if (rank == 0) MPI_Isend(value.data(), bytes, MPI_BYTE, 1, 0, MPI_COMM_WORLD, &request);
          else MPI_Irecv(value.data(), bytes, MPI_BYTE, 0, 0, MPI_COMM_WORLD, &request);
        },
        [&] { MPI_Wait(&request, MPI_STATUS_IGNORE); });
    benchmarks::print_overlap(rank, ours, bare);
  } catch (std::exception const& fault) {
    std::fprintf(stderr, "overlap_over_mpi: %s\n", fault.what());
    return 1;
  }
  return 0;
}
