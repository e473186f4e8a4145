// SPDX-License-Identifier: Apache-2.0
// processes: 8
#include <doctest/doctest.h>
#include <laws/transport.hpp>
#include <mpi/world.hpp>

struct processes {
  static constexpr bool is_strict = false;  // MPI sends small messages before they are asked for
  void run(int ranks, auto f, double deadline) const { support::run_over_mpi(ranks, f, deadline); }
};

TEST_CASE("MPI keeps the laws") { laws::transport<processes>(); }
