// SPDX-License-Identifier: Apache-2.0
// A schedule given as a table trains to the serial oracle's numbers, bit by bit; a table that cannot is refused with its place.
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <support/scalar_model.hpp>
#include <support/train.hpp>

#include <pipewright/plan/table_plan.hpp>

namespace pw = pipewright;

namespace {

// Small dyadic numbers: every sum is exact.
auto batches = [](int number) { return toys::scalar_batch{{1, 0.5, 0.25, 2}, number}; };

pw::dynamic_plan plan_of(std::string_view csv, pw::table_options const& options = {}, pw::needs wants = {}) {
  return pw::make_plan(pw::parse_csv(csv).orders.view(), options, wants);
}

void check(std::string_view csv, pw::table_options const& options = {}) {
  CAPTURE(csv);
  auto const plan = plan_of(csv, options);
  pw::plan_view const view = plan.view();
  std::vector<double> initial(static_cast<std::size_t>(view.stages()), 1);
  initial.front() = 0.5;
  toys::scalar_model const set{initial};
  support::run_of const run{.calls = "ssese"};
  auto const expected =
      support::train_serially(pw::weight_rule::synchronous, view.facts, set, batches, pw::sgd{.rate = 0.125}, run);
  auto const found = support::train_in_pipeline<double>(view, set, batches, pw::sgd{.rate = 0.125}, run);
  CHECK(found.losses == expected.losses);
  CHECK(found.evaluations == expected.evaluations);
  CHECK(found.weights == expected.weights);
}

}  // namespace

TEST_CASE("tables run") {
  check("0F0,0F1,0F2,0B0,0B1,0B2\n1F0,1F1,1F2,1B0,1B1,1B2\n");                   // GPipe
  check("0F0,0F1,0I0,0W0,0I1,0W1\n1F0,1I0,1F1,1I1,1W0,1W1\n");                   // halves apart
  check("0F0,0F1,0I0,0W0,0B1\n1F0,1I0,1F1,1B1,1W0\n");                           // both forms in one table
  check("0F0,0F1,3F0,3F1,3B1,3B0,0B1,0B0\n1F0,1F1,2F0,2F1,2B1,2B0,1B1,1B0\n");   // a V
  check("1F0,1F1,1B0,1B1\n0F0,0F1,0B0,0B1\n");                                   // stage 0 on rank 1
  check("0F0,0SEND_F0,0RECV_B0,0B0\n1RECV_F0,1F0,1B0,1SEND_B0\n");               // its transfers are left out
  check("0F0,1F0,1B0,0B0\n2F0,3F0,3B0,2B0\n", {.rank_of_stage = {0, 0, 1, 1}});  // neighbours on one rank
}

TEST_CASE("tables that cannot run say why") {
  auto const refused = [](std::string_view csv, char const* why, pw::table_options const& options = {},
                          pw::needs wants = {}) {
    CHECK_THROWS_WITH_AS(plan_of(csv, options, wants), doctest::Contains(why), pw::error);
  };
  refused("0F0,0F1,0B0\n1F0,1B0,1F1,1B1\n",
          "rule complete, rank 0, position 3 (the end of the row), action 0B1 is missing");
  refused("0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n", "rank 0, position 1, action 0B0");
  refused("0F0,1F0,1B0,0B0\n2F0,2B0\n", "rank 0 of the table holds 2 of 3 stages; to run, every rank holds as many");
  refused("0F0,0B0\n1F0,1B0\n", "write a policy for an asynchronous schedule",
          {.weights = pw::weight_rule::double_buffered});
  refused("0F0,0B0\n1F0,1B0\n", "needs ties stages 0 and 2, but the plan has stages 0 to 1", {},
          {.tied_first = 0, .tied_second = 2});
}
