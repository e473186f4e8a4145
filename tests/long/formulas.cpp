// SPDX-License-Identifier: Apache-2.0
// All P in 1..8, M in 1..32, V in 1..4 and every legal group of interleaved, each with every kind of recomputation.
#include <support/plan_proofs.hpp>

namespace pw = pipewright;

TEST_CASE("interleaved with every group") {
  auto const seen = support::prove_all_shapes<pw::interleaved<>>(true);
  MESSAGE(seen.legal << " legal shapes proven, " << seen.illegal << " illegal ones refused");
  CHECK_GT(seen.legal, 7'000);
  CHECK_GT(seen.illegal, 10'000);
}

TEST_CASE_TEMPLATE("needs", Policy, pw::sequential, pw::gpipe, pw::one_f_one_b, pw::one_f_one_b_vertical_sync,
                   pw::two_buffered, pw::flush, pw::interleaved<>) {
  int plans = 0;
  for (int p = 1; p <= 8; ++p)
    for (int m = 1; m <= 32; ++m)
      for (int v = 1; v <= 4; ++v) {
        if (!support::is_legal(Policy::name, p, m, v)) continue;
        for (auto const mode : {pw::recompute_mode::never, pw::recompute_mode::except_last, pw::recompute_mode::always})
          for (int exchange = 0; exchange < 4; ++exchange) {
            pw::needs wants{.recompute = mode, .step_facts = exchange % 2 == 1};
            if (exchange >= 2) {
              if (p * v < 2) continue;
              wants.tied_first = 0;
              wants.tied_second = p * v - 1;
            }
            if (exchange > 0 && Policy::weights == pw::weight_rule::stashing) continue;
            pw::shape const s{p, m, v, 0, pw::is_stream(Policy::weights) ? 2 : 1};
            CAPTURE(support::describe(s));
            CAPTURE(support::describe(wants));
            ++plans;
            CHECK_EQ(support::brute_force(support::programs_of<Policy>(s, wants)), "");
          }
      }
  MESSAGE(Policy::name << ": " << plans << " plans");
  CHECK_GT(plans, 700);
}
