// SPDX-License-Identifier: Apache-2.0
// How much of a large transfer passes while both ranks compute: 64 MB from rank 0 to rank 1, each of them busy (asleep) for
// 100 ms meanwhile, then waiting. Next to it MPI alone, whose bytes move only while somebody calls it.
//   mpirun -np 2 mpi_overlap [--repeats N]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

#include <benchmarks/support.hpp>

#include <pipewright/mpi/link.hpp>

namespace {

namespace pw = pipewright;
using clock_type = std::chrono::steady_clock;
constexpr std::size_t bytes = 64'000'000;
constexpr auto busy = std::chrono::milliseconds(100);

double seconds_since(clock_type::time_point start) {
  return std::chrono::duration<double>(clock_type::now() - start).count();
}

/// Seconds that rank 1 waits for after its work; rank 0 sends.
template<class Begin, class Wait> double waited(int rank, Begin begin, Wait wait) {
  MPI_Barrier(MPI_COMM_WORLD);
  begin(rank);
  std::this_thread::sleep_for(busy);
  auto const start = clock_type::now();
  wait();
  return seconds_since(start);
}

}  // namespace

int main(int argc, char** argv) {
  int const repeats = argc > 2 && std::string_view(argv[1]) == "--repeats" ? std::atoi(argv[2]) : 9;
  pw::mpi::environment const mpi;
  try {
    pw::mpi::link over;
    int const rank = over.rank();
    if (over.size() != 2) throw pw::error("mpi_overlap: start 2 processes: mpirun -np 2 mpi_overlap");
    std::vector<char> value(bytes);
    std::vector<double> ours, bare;
    {
      pw::mpi::endpoint here(over);
      int const channel = here.open({0, 1, pw::traffic::activation});
      pw::ticket begun;
      for (int i = 0; i < repeats + 1; ++i) {
        double const s = waited(
            rank,
            [&](int) {
              value.resize(bytes);
              begun = rank == 0 ? here.send(channel, pw::message_of(value)) : here.post(channel, pw::message_of(value));
            },
            [&] { here.wait(begun); });
        if (i > 0) ours.push_back(s);  // the first makes buffers
      }
    }
    MPI_Request request = MPI_REQUEST_NULL;
    value.resize(bytes);
    for (int i = 0; i < repeats; ++i)
      bare.push_back(waited(
          rank,
          [&](int) {
            if (rank == 0) MPI_Isend(value.data(), static_cast<int>(bytes), MPI_BYTE, 1, 0, MPI_COMM_WORLD, &request);
            else MPI_Irecv(value.data(), static_cast<int>(bytes), MPI_BYTE, 0, 0, MPI_COMM_WORLD, &request);
          },
          [&] { MPI_Wait(&request, MPI_STATUS_IGNORE); }));
    if (rank == 1)
      std::printf("64 MB, received under 100 ms of work: left to wait for %.2f ms (bare MPI %.2f ms), medians of %d\n",
                  1e3 * benchmarks::median(ours), 1e3 * benchmarks::median(bare), repeats);
  } catch (std::exception const& fault) {
    std::fprintf(stderr, "%s\n", fault.what());
    return 1;
  }
  return 0;
}
