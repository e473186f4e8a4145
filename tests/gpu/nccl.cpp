// SPDX-License-Identifier: Apache-2.0
// NCCL on one GPU. Exit code 0: as it should be; 77: NCCL refuses, and its words follow; 1: wrong numbers, or another fault.
//
//   nccl self      one rank sends to itself, by a communicator made as the transport makes its own
//   nccl two       two processes on one GPU, which NCCL_HOSTID says are two hosts
//   nccl threads   the whole transport, two ranks of one process on one GPU: NCCL refuses that, and each rank is to say so
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <nccl/ranks.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include <pipewright/cuda/step_graph.hpp>
#include <pipewright/nccl/group.hpp>

namespace {

namespace pw = pipewright;
using clock_type = std::chrono::steady_clock;

constexpr int refused = 77;

/// Waits until NCCL has done what it was asked for.
void settle(ncclComm_t of) {
  auto const limit = clock_type::now() + std::chrono::seconds(40);
  while (true) {
    auto const state = pw::nccl::communicators::state_of(of);
    pw::nccl::check(state, "ncclCommGetAsyncError", of);
    if (state == ncclSuccess) return;
    if (clock_type::now() > limit) throw pw::error("NCCL was still at work after 40 s");
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

/// Sends to one rank and receives from it at once, at several sizes; prints the time of each. Says whether the right numbers
/// came.
bool exchange(pw::cuda::context& where, ncclComm_t over, int rank, int other) {
  bool is_right = true;
  if (rank == 0) std::printf("| size | takes | each way | numbers |\n| --- | --- | --- | --- |\n");
  for (std::size_t const bytes : {std::size_t{1} << 10, std::size_t{8} << 20, std::size_t{128} << 20}) {
    std::size_t const n = bytes / sizeof(int);
    std::vector<int> given(n), found(n), expected(n);
    std::iota(given.begin(), given.end(), rank);
    std::iota(expected.begin(), expected.end(), other);
    pw::cuda::buffer<int> from(n), to(n);
    pw::cuda::upload<int>(given, from.data());
    double best = 1e9;
    for (int i = 0; i < 5; ++i) {
      where.wait();
      auto const begin = clock_type::now();
      pw::nccl::check(ncclGroupStart(), "ncclGroupStart");
      pw::nccl::check(ncclSend(from.data(), bytes, ncclUint8, other, over, where.stream()), "ncclSend", over);
      pw::nccl::check(ncclRecv(to.data(), bytes, ncclUint8, other, over, where.stream()), "ncclRecv", over);
      pw::nccl::check(ncclGroupEnd(), "ncclGroupEnd", over);
      settle(over);
      where.wait();
      best = std::min(best, std::chrono::duration<double>(clock_type::now() - begin).count());
    }
    pw::cuda::download<int>(to.data(), found);
    is_right = is_right && found == expected;
    if (rank == 0)
      std::printf("| %zu bytes | %.1f us | %.2f GB/s | %s |\n", bytes, 1e6 * best,
                  static_cast<double>(bytes) / best / 1e9, found == expected ? "right" : "WRONG");
    std::fflush(stdout);
  }
  return is_right;
}

/// The same in steps that are written down, and become one graph.
bool exchange_by_graph(pw::cuda::context& where, ncclComm_t over, int rank, int other) {
  constexpr int steps = 6;
  pw::cuda::buffer<int> from(1024), to(1024);
  pw::cuda::step_graph graph(where);
  std::vector<int> found(1024);
  bool is_right = true;
  for (int step = 0; step < steps; ++step) {
    std::vector<int> const given(1024, 10 * step + rank), expected(1024, 10 * step + other);
    pw::cuda::upload<int>(given, from.data());
    graph([&] {
      pw::nccl::detail::group all(over);
      all.add(true, other, from.data(), 1024 * sizeof(int));
      all.add(false, other, to.data(), 1024 * sizeof(int));
      pw::cuda::queue<pw::nccl::detail::group>("NCCL's transfers", where.stream(), pw::nccl::detail::group::play, all);
    });
    pw::cuda::download<int>(to.data(), found);
    is_right = is_right && found == expected;
  }
  if (rank == 0)
    std::printf("\n%zu of %d steps as %zu graph: %s; numbers %s\n", graph.launches(), steps, graph.graphs(),
                graph.why_not().empty() ? "captured" : graph.why_not().c_str(), is_right ? "right" : "WRONG");
  return is_right && graph.why_not().empty() && graph.graphs() == 1;
}

/// One rank of so many.
int run_rank(int size, int rank, ncclUniqueId const& id) try {
  pw::cuda::context where(0, rank);
  pw::nccl::communicators all(0);
  auto const over = all.begin(size, id, rank, 4);
  settle(over);
  int const other = size == 1 ? 0 : 1 - rank;
  bool const is_right = exchange(where, over, rank, other) & exchange_by_graph(where, over, rank, other);
  all.finish();
  return is_right ? 0 : 1;
} catch (pw::error const& e) {
  std::printf("\nrank %d: %s\n", rank, e.what());
  std::fflush(stdout);
  return std::string_view(e.what()).find("NCCL") == std::string_view::npos &&
                 std::string_view(e.what()).find("nccl") == std::string_view::npos
             ? 1
             : refused;
}

int with_itself() {
  pw::cuda::context const needs_a_device;
  ncclUniqueId id;
  pw::nccl::check(ncclGetUniqueId(&id), "ncclGetUniqueId");
  return run_rank(1, 0, id);
}

int two_processes() {
  setenv("NCCL_SOCKET_IFNAME", "lo", 0);  // what goes between two hosts
  setenv("NCCL_IB_DISABLE", "1", 0);
  int ends[2];
  if (pipe(ends) != 0) throw pw::error("no pipe");
  auto const child = fork();  // before CUDA is touched
  int const rank = child == 0 ? 1 : 0;
  setenv("NCCL_HOSTID", rank == 0 ? "pipewright-0" : "pipewright-1", 1);
  alarm(100);
  ncclUniqueId id;
  if (rank == 0) {
    pw::nccl::check(ncclGetUniqueId(&id), "ncclGetUniqueId");
    if (write(ends[1], &id, sizeof id) != sizeof id) throw pw::error("the id was not sent");
    int const mine = run_rank(2, 0, id);
    int others = 0;
    waitpid(child, &others, 0);
    return std::max(mine, WIFEXITED(others) ? WEXITSTATUS(others) : 1);
  }
  close(ends[1]);  // or a first rank that failed would be waited for
  if (read(ends[0], &id, sizeof id) != sizeof id) return 1;
  return run_rank(2, 1, id);
}

int over_threads() {
  pw::cuda::context const needs_a_device;
  try {
    nccl_ranks::run(2,
                    [](auto& here) {
                      int const channel = here.open({0, 1, pw::traffic::activation});
                      here.agree("all are here");
                      pw::cuda::buffer<int> slot(4);
                      here.wait(here.rank() == 0 ? here.send(channel, pw::message_of(slot))
                                                 : here.post(channel, pw::message_of(slot)));
                    },
                    {.deadline = 20});
  } catch (pw::error const& e) {
    std::printf("%s\n", e.what());
    return std::string_view(e.what()).find("failed") == std::string_view::npos ? 1 : 0;
  }
  std::printf("NCCL let two ranks share the GPU\n");
  return 0;
}

}  // namespace

int main(int count, char** given) try {
  std::string_view const what = count == 2 ? given[1] : "";
  if (what == "self") return with_itself();
  if (what == "two") return two_processes();
  if (what == "threads") return over_threads();
  std::fprintf(stderr, "usage: nccl self|two|threads\n");
  return 2;
} catch (std::exception const& e) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
