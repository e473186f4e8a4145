// SPDX-License-Identifier: Apache-2.0
// Every legal shape's plan: sound for verify and for the brute force, with the peaks, versions and bubbles of the closed
// formulas; every illegal shape refused with its sentence. Group sizes besides the default are in tests/long.
#include <support/plan_proofs.hpp>
#include <support/twice.hpp>

#include <pipewright/plan/steady.hpp>

namespace pw = pipewright;

TEST_CASE_TEMPLATE("all P, M, V", Policy, pw::sequential, pw::gpipe, pw::one_f_one_b, pw::one_f_one_b_vertical_sync,
                   pw::two_buffered, pw::flush, pw::forward_only, pw::interleaved<>) {
  auto const seen = support::prove_all_shapes<Policy>(false);
  MESSAGE(Policy::name << ": " << seen.legal << " legal shapes proven, " << seen.illegal << " illegal ones refused");
  CHECK(seen.legal > 250);
}
