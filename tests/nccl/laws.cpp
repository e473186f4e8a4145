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

}  // namespace

TEST_CASE("NCCL over threads keeps the laws of transports") { laws::transport<nccl_over_threads>(); }
