// SPDX-License-Identifier: Apache-2.0
// Streams: prologue and period written out for any number of batches and drained there, run by the brute force.
#include <support/plan_proofs.hpp>
#include <support/streams.hpp>

#include <pipewright/plan/steady.hpp>

namespace pw = pipewright;
using support::brute_force;

namespace {

/// Every need that a schedule can have, over P ranks.
template<class Policy> std::vector<pw::needs> all_needs(int ranks) {
  std::vector<pw::needs> result;
  for (auto const mode : {pw::recompute_mode::never, pw::recompute_mode::except_last, pw::recompute_mode::always})
    for (bool const facts : {false, true})
      for (int const tied_first : {-1, 0, 1}) {  // -1 for no tie
        if (tied_first >= ranks - 1) continue;
        if ((tied_first >= 0 || facts) && Policy::weights == pw::weight_rule::stashing) continue;
        result.push_back({mode, facts, tied_first, tied_first < 0 ? -1 : ranks - 1});
      }
  return result;
}

}  // namespace

TEST_CASE_TEMPLATE("a stream is right for every number of batches it is drained after", Policy, pw::one_f_one_b,
                   pw::one_f_one_b_vertical_sync, pw::two_buffered) {
  int runs = 0;
  for (int const p : {1, 2, 3, 4, 5, 8})
    for (int const m : {1, 2, 3, 7})
      for (auto const& wants : all_needs<Policy>(p)) {
        if (!support::is_legal(Policy::name, p, m, 1)) continue;
        CAPTURE(Policy::name);
        CAPTURE(p);
        CAPTURE(m);
        CAPTURE(support::describe(wants));
        auto const plan = pw::make_plan<Policy>({p, m}, wants);
        auto const stream = support::stream_of(plan.view());
        for (int const batches : {1, 2, p + 3}) {
          CAPTURE(batches);
          ++runs;
          auto const cut_short = support::drained(stream, batches);
          CHECK_EQ(brute_force(cut_short), "");
          auto const finite = support::programs_of<Policy>({p, m, 1, 0, batches}, wants);
          CHECK_EQ(brute_force(finite), "");
          // Where ranks exchange nothing before an update, a stream cut short is the finite plan, word by word.
          if (!wants.step_facts && !wants.tied()) CHECK(cut_short.programs == finite.programs);
        }
      }
  MESSAGE(Policy::name << ": " << runs << " streams drained");
  CHECK(runs > 200);
}

TEST_CASE_TEMPLATE("steady state: no bubble, P-r in flight, the papers' weight versions", Policy, pw::one_f_one_b,
                   pw::one_f_one_b_vertical_sync, pw::two_buffered) {
  for (int p = 1; p <= 8; ++p)
    for (int const m : {7, 8, 32}) {
      CAPTURE(Policy::name);
      CAPTURE(p);
      CAPTURE(m);
      auto const plan = pw::make_plan<Policy>({p, m});
      pw::costs<pw::rational> times;
      CHECK(pw::steady_bubble(plan.view(), times) == pw::rational(0));
      // Unit times: each micro-batch of 3 pays 2(P-1)c/P for an edge's latency c.
      pw::rational const c(1, 1000);
      times.transfer = c;
      auto const paid = pw::rational(2 * (p - 1), p) * c;
      CHECK(pw::steady_bubble(plan.view(), times) == paid / (pw::rational(3) + paid));
      auto const long_run = pw::make_unrolled_plan<Policy>({p, m, 1, 0, 2 * p + 3});
      for (int r = 0; r < p; ++r) {
        CHECK_EQ(pw::peak_in_flight(long_run.view(), r), p - r);
        CHECK_EQ(pw::peak_weight_versions(long_run.view(), r), Policy::weights == pw::weight_rule::stashing ? p - r
                                                               : Policy::weights == pw::weight_rule::vertical_sync ? p
                                                                                                                   : 2);
      }
    }
}

TEST_CASE("stashing refuses what it cannot exchange") {
  for (pw::needs const wants : {pw::needs{.step_facts = true}, pw::needs{.tied_first = 0, .tied_second = 3}})
    CHECK_THROWS_WITH_AS(pw::make_plan<pw::one_f_one_b>({4, 8}, wants),
                         doctest::Contains("weight stashing cannot exchange"), pw::error);
}
