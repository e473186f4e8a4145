// SPDX-License-Identifier: Apache-2.0
// processes: 8
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <gloo/world.hpp>
#include <laws/transport.hpp>

struct over_gloo {
  static constexpr bool is_strict = false;  // Gloo takes small messages before they are asked for
  void run(int ranks, auto f, double deadline) const { support::run_over_gloo(ranks, f, deadline); }
};

TEST_CASE("Gloo keeps the laws") { laws::transport<over_gloo>(); }

int main(int argc, char** argv) { return support::test_together(argc, argv); }
