// SPDX-License-Identifier: Apache-2.0
// The NCCL transport over threads keeps the laws of transports, with values that lie on the host.
#include <doctest/doctest.h>
#include <laws/transport.hpp>
#include <nccl/ranks.hpp>

namespace {

struct nccl_over_threads {
  static constexpr bool is_strict = false;  // a send is complete once it is queued
  void run(int ranks, auto f, double deadline) const { nccl_ranks::run(ranks, f, {.deadline = deadline}); }
};

struct nccl_over_wires {
  static constexpr bool is_strict = false;
  void run(int ranks, auto f, double deadline) const { nccl_ranks::run_over_wires(ranks, f, {.deadline = deadline}); }
};

}  // namespace

TEST_CASE("NCCL over threads keeps the laws of transports") { laws::transport<nccl_over_threads>(); }
TEST_CASE("and so it does over the transport of MPI and Gloo") { laws::transport<nccl_over_wires>(); }
