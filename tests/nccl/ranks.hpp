// SPDX-License-Identifier: Apache-2.0
#pragma once
// Ranks of the NCCL transport as threads, each with a context of its own.

#include <cstddef>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include <support/link_in_memory.hpp>

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

/// The same over the transport of MPI and Gloo, whose links are memory here: those of theirs are of processes, and the stand-in of
/// NCCL is of one.
using wire_endpoint = pw::nccl::endpoint<pw::wire::endpoint<support::link_in_memory>>;
inline void run_over_wires(int ranks, auto&& f, pw::nccl::options how = {}) {
  support::wires between;
  std::vector<std::string> faults(static_cast<std::size_t>(ranks));
  pw::in_process::run(ranks,
                      [&](pw::in_process::endpoint& thread) {
                        support::link_in_memory link(between, thread.rank(), ranks);
                        pw::wire::endpoint<support::link_in_memory> control(link, {.deadline = how.deadline});
                        pw::cuda::context where(0, thread.rank());
                        wire_endpoint here(control, where, how);
                        try {
                          f(here);
                          where.wait();
                        } catch (std::exception const& e) {
                          here.abort(e.what());
                        }
                        try {
                          here.progress();
                        } catch (std::exception const& told) {  // all were stopped
                          faults[static_cast<std::size_t>(thread.rank())] = told.what();
                        }
                      },
                      {.grace = 60});
  for (auto const& each : faults)
    if (!each.empty()) throw pw::error(each);
}

/// Until a transfer is queued; a steady state does no more.
void await(auto& here, pw::ticket of) {
  while (!here.poll(of)) {
    here.progress();
    std::this_thread::yield();
  }
}

}  // namespace nccl_ranks
