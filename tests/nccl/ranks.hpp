// SPDX-License-Identifier: Apache-2.0
#pragma once
// Ranks of the NCCL transport as threads, each with a context of its own.

#include <thread>

#include <pipewright/nccl/nccl.hpp>
#include <pipewright/transport/in_process.hpp>

namespace nccl_ranks {

namespace pw = pipewright;
using endpoint = pw::nccl::endpoint<pw::in_process::endpoint>;

inline pw::nccl::options const ways[] = {
    {.shapes = pw::nccl::varying},
    {.shapes = pw::nccl::fixed},
    {.shapes = pw::nccl::fixed, .one_communicator = true},
};

/// Runs f(endpoint&) on each rank; f may ask for pw::cuda::context::here(). What a rank has queued is done before it
/// ends.
template<class Endpoint = endpoint> void run(int ranks, auto&& f, pw::nccl::options how = {}) {
  pw::in_process::run(ranks,
                      [&](pw::in_process::endpoint& control) {
                        pw::cuda::context where(0, control.rank());
                        Endpoint here(control, where, how);
                        f(here);
                        where.wait();
                      },
                      {.deadline = how.deadline, .grace = 60});
}

/// Until a transfer is queued; a steady state does no more.
void await(auto& here, pw::ticket of) {
  while (!here.poll(of)) {
    here.progress();
    std::this_thread::yield();
  }
}

}  // namespace nccl_ranks
