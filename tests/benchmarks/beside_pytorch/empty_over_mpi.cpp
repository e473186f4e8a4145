// SPDX-License-Identifier: Apache-2.0
// Empty stages over MPI.
//   mpirun -np 2 empty_over_mpi --schedule gpipe|flush|interleaved --micro-batches M --steps N
#include <pipewright/mpi/link.hpp>

#include "empty_stages.hpp"

int main(int argc, char** argv) {
  namespace pw = pipewright;
  pw::mpi::environment const mpi;
  try {
    pw::mpi::link over;
    pw::mpi::endpoint here(over);
    benchmarks::time_steps(
        here, {argc, argv}, [](int stages) { return benchmarks::stages_of<benchmarks::nothing_to_do>{stages}; },
        benchmarks::empty_batch{});
  } catch (std::exception const& fault) {
    std::fprintf(stderr, "empty_over_mpi: %s\n", fault.what());
    return 1;
  }
  return 0;
}
