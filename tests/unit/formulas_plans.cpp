// SPDX-License-Identifier: Apache-2.0
// Every legal shape's plan: sound for verify and for the brute force, with the peaks, versions and bubbles of the closed
// formulas; every illegal shape refused with its sentence. Group sizes besides the default are in tests/long.
#include <support/plan_proofs.hpp>
#include <support/streams.hpp>
#include <support/twice.hpp>

#include <pipewright/plan/steady.hpp>

namespace pw = pipewright;
using support::brute_force;

TEST_CASE("all P, M, V of every schedule") {
  for (auto const& policy : support::library_policies()) {
    auto const seen = support::prove_all_shapes(policy);
    MESSAGE(policy.name << ": " << seen.legal << " legal shapes proven, " << seen.illegal << " illegal ones refused");
    CHECK(seen.legal > 250);
  }
}

// Negative controls: schedules under a false name.
namespace {

struct gpipe_named_flush : pw::gpipe {
  static constexpr std::string_view name = "flush";
};
struct flush_named_sequential : pw::flush {
  static constexpr std::string_view name = "sequential";
};

}  // namespace

TEST_CASE("the statements about a plan can be false") {
  CHECK_EQ(support::false_statement(support::plans_of<gpipe_named_flush>, {4, 8}),
           "in flight 8 instead of 4 on rank 0");
  CHECK_EQ(support::false_statement(support::plans_of<flush_named_sequential>, {1, 8}), "");
  CHECK_EQ(support::false_statement(support::plans_of<flush_named_sequential>, {4, 8}),
           "in flight 4 instead of 1 on rank 0");
  CHECK_EQ(support::false_refusal(support::plans_of<pw::flush>, {4, 8}), "it is taken for legal");
}

TEST_CASE("vertical sync and weight stashing, P8 M8: the weight versions of a stream drained after one batch") {
  auto versions = [](auto const& plan) {
    std::vector<int> result;
    for (int r = 0; r < 8; ++r) result.push_back(pw::peak_weight_versions(plan.view(), r));
    return result;
  };
  CHECK(versions(pw::make_unrolled_plan<pw::one_f_one_b>({8, 8})) == std::vector{2, 3, 4, 5, 4, 3, 2, 1});
  CHECK(versions(pw::make_unrolled_plan<pw::one_f_one_b>({8, 64})) == std::vector{8, 7, 6, 5, 4, 3, 2, 1});
  CHECK(versions(pw::make_unrolled_plan<pw::one_f_one_b_vertical_sync>({8, 64})) == std::vector(8, 8));
  CHECK(versions(pw::make_unrolled_plan<pw::two_buffered>({8, 8, 1, 0, 4})) == std::vector(8, 2));
}

// Streams: prologue and period written out for any number of batches and drained there, run by the brute force.
namespace {

/// Every need that a schedule can have, over P ranks.
std::vector<pw::needs> all_needs(support::planned_policy const& policy, int ranks) {
  std::vector<pw::needs> result;
  for (auto const mode : pw::recompute_modes)
    for (bool const facts : {false, true})
      for (int const tied_first : {-1, 0, 1}) {  // -1 for no tie
        if (tied_first >= ranks - 1) continue;
        if ((tied_first >= 0 || facts) && policy.weights == pw::weight_rule::stashing) continue;
        result.push_back({mode, facts, tied_first, tied_first < 0 ? -1 : ranks - 1});
      }
  return result;
}

constexpr support::planned_policy streams[] = {support::plans_of<pw::one_f_one_b>,
                                               support::plans_of<pw::one_f_one_b_vertical_sync>,
                                               support::plans_of<pw::two_buffered>};

}  // namespace

TEST_CASE("a stream is right for every number of batches it is drained after") {
  for (auto const& policy : streams) {
    int runs = 0;
    for (int const p : {1, 2, 3, 4, 5, 8})
      for (int const m : {1, 2, 3, 7})
        for (auto const& wants : all_needs(policy, p)) {
          if (!support::is_legal(policy.name, p, m, 1)) continue;
          CAPTURE(policy.name);
          CAPTURE(p);
          CAPTURE(m);
          CAPTURE(support::describe(wants));
          auto const plan = policy.plan({p, m}, wants);
          auto const stream = support::stream_of(plan.view());
          for (int const batches : {1, 2, p + 3}) {
            CAPTURE(batches);
            ++runs;
            auto const cut_short = support::drained(stream, batches);
            CHECK_EQ(brute_force(cut_short), "");
            auto const finite = policy.programs({p, m, 1, 0, batches}, wants);
            CHECK_EQ(brute_force(finite), "");
            // Where ranks exchange nothing before an update, a stream cut short is the finite plan, word by word.
            if (!wants.step_facts && !wants.tied()) CHECK(cut_short.programs == finite.programs);
          }
        }
    MESSAGE(policy.name << ": " << runs << " streams drained");
    CHECK(runs > 200);
  }
}

TEST_CASE("steady state: no bubble, P-r in flight, the papers' weight versions") {
  for (auto const& policy : streams)
    for (int p = 1; p <= 8; ++p)
      for (int const m : {7, 8, 32}) {
        CAPTURE(policy.name);
        CAPTURE(p);
        CAPTURE(m);
        auto const plan = policy.plan({p, m}, {});
        pw::costs<pw::rational> times;
        CHECK(pw::steady_bubble(plan.view(), times) == pw::rational(0));
        // Unit times: each micro-batch of 3 pays 2(P-1)c/P for an edge's latency c.
        pw::rational const c(1, 1000);
        times.transfer = c;
        auto const paid = pw::rational(2 * (p - 1), p) * c;
        CHECK(pw::steady_bubble(plan.view(), times) == paid / (pw::rational(3) + paid));
        auto const long_run = policy.unrolled_plan({p, m, 1, 0, 2 * p + 3}, {});
        for (int r = 0; r < p; ++r) {
          CHECK_EQ(pw::peak_in_flight(long_run.view(), r), p - r);
          CHECK_EQ(pw::peak_weight_versions(long_run.view(), r), policy.weights == pw::weight_rule::stashing ? p - r
                                                                 : policy.weights == pw::weight_rule::vertical_sync
                                                                     ? p
                                                                     : 2);
        }
      }
}

TEST_CASE("stashing refuses what it cannot exchange") {
  for (pw::needs const wants : {pw::needs{.step_facts = true}, pw::needs{.tied_first = 0, .tied_second = 3}})
    CHECK_THROWS_WITH_AS(pw::make_plan<pw::one_f_one_b>({4, 8}, wants),
                         doctest::Contains("weight stashing cannot exchange"), pw::error);
}
