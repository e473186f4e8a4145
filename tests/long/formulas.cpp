// SPDX-License-Identifier: Apache-2.0
// All P in 1..8, M in 1..32, V in 1..4: every group of interleaved, and every need that a plan can have.
#include <support/plan_proofs.hpp>

namespace pw = pipewright;

TEST_CASE("interleaved with every group") {
  auto const seen = support::prove_all_shapes(support::plans_of<pw::interleaved<>>, true);
  MESSAGE(seen.legal << " legal shapes proven, " << seen.illegal << " illegal ones refused");
  CHECK_GT(seen.legal, 7'000);
  CHECK_GT(seen.illegal, 10'000);
}

TEST_CASE("every need of every shape") {
  for (auto const& policy : support::library_policies()) {
    if (!policy.trains()) continue;
    int plans = 0;
    for (int p = 1; p <= 8; ++p)
      for (int m = 1; m <= 32; ++m)
        for (int v = 1; v <= 4; ++v) {
          if (!support::is_legal(policy.name, p, m, v)) continue;
          for (auto const mode : pw::recompute_modes)
            for (int exchange = 0; exchange < 4; ++exchange) {
              pw::needs wants{.recompute = mode, .step_facts = exchange % 2 == 1};
              if (exchange >= 2) {
                wants.tied_first = 0;
                wants.tied_second = p * v - 1;
              }
              if (exchange > 0 && policy.weights == pw::weight_rule::stashing) continue;
              pw::shape const s{p, m, v, 0, policy.streams() ? 2 : 1};
              CAPTURE(policy.name);
              CAPTURE(support::describe(s));
              CAPTURE(support::describe(wants));
              ++plans;
              CHECK_EQ(support::brute_force(policy.programs(s, wants)), "");
            }
        }
    MESSAGE(policy.name << ": " << plans << " plans");
    CHECK_GT(plans, 700);
  }
}
