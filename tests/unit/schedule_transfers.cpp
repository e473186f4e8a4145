// SPDX-License-Identifier: Apache-2.0
// Where sends and receives stand: the safe rule restated, the library's table against it, and what breaks without it.
#include <doctest/doctest.h>
#include <support/any_policy.hpp>
#include <support/exact_timeline.hpp>
#include <support/safe_transfers.hpp>
#include <support/table_runs.hpp>

#include <pipewright/schedule/named.hpp>

namespace pw = pipewright;
using support::orders;
using support::read_order;

namespace {

constexpr support::any_policy judged[] = {support::policy_of<pw::sequential>,
                                          support::policy_of<pw::gpipe>,
                                          support::policy_of<pw::flush>,
                                          support::policy_of<pw::interleaved<>>,
                                          support::policy_of<support::descending_gpipe>,
                                          support::policy_of<support::zero_bubble_h1>,
                                          support::policy_of<support::breadth_first_v>};

/// The library's table of blocking transfers.
orders library_table(support::any_policy const& policy, pw::shape s) {
  auto const compute = support::rows_of(policy.orders(s));
  auto const rank_of = policy.placement(s);
  auto const met = pw::meet(compute.view(), s, rank_of.data(), policy.backward);
  auto const table = pw::rendezvous_table(compute.view(), met, s, rank_of.data());
  orders result;
  for (int r = 0; r < s.ranks; ++r) result.emplace_back(table.view()[r].begin(), table.view()[r].end());
  return result;
}

std::string write_table(orders const& table) {
  std::string text;
  for (auto const& row : table) {
    for (auto const a : row) text += support::write_instruction({a, 0}) + " ";
    text += "\n";
  }
  for (std::size_t at; (at = text.find(" v0")) != std::string::npos;) text.erase(at, 3);
  return text;
}

/// ZBV on two ranks, four micro-batches, as the reference has it.
orders const zero_bubble_v{
    read_order("0F0 0F1 0F2 3F0 3I0 3W0 3F1 3I1 3W1 0F3 0I0 0W0 3F2 3I2 3W2 0I1 0W1 3F3 3I3 3W3 0I2 0W2 0I3 0W3"),
    read_order("1F0 2F0 1F1 2F1 2I0 2W0 1F2 1I0 1W0 2F2 2I1 2W1 1F3 1I1 1W1 2F3 2I2 2W2 1I2 2I3 1I3 1W2 2W3 1W3")};

/// ZB1P on two ranks, two chunks, four micro-batches.
orders const zero_bubble_1p{
    read_order("0F0 0F1 2F0 2F1 2I0 2W0 0F2 2I1 2W1 0F3 0I0 0W0 2F2 0I1 0W1 2F3 2I2 2W2 2I3 2W3 0I2 0W2 0I3 0W3"),
    read_order("1F0 1F1 3F0 3I0 3F1 3I1 3W0 1F2 1I0 3W1 1F3 1I1 1W0 3F2 3I2 1W1 3F3 3I3 3W2 1I2 3W3 1I3 1W2 1W3")};

}  // namespace

TEST_CASE("the safe table of 1F1B, as the reference has it") {
  CHECK_EQ(write_table(library_table(support::policy_of<pw::flush>, {2, 3, 1})),
           "0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0F2 0SEND_F2 0RECV_B1 0B1 0RECV_B2 0B2 \n"
           "1RECV_F0 1F0 1RECV_F1 1B0 1SEND_B0 1F1 1RECV_F2 1B1 1SEND_B1 1F2 1B2 1SEND_B2 \n");
}

TEST_CASE("the library's table is the safe rule's, and completes where every transfer blocks") {
  for (auto const& policy : judged)
    for (int p = 1; p <= 8; ++p)
      for (int const m : {1, 2, 3, 4, 5, 8, 12, 16})
        for (int v = 0; v <= (policy.name == "interleaved" ? 3 : 0); ++v) {
          auto const s = policy.complete({p, m, v});
          if (!policy.check(s).ok()) continue;
          CAPTURE(policy.name);
          CAPTURE(support::describe(s));
          auto const rank_of = policy.placement(s);
          auto const table = library_table(policy, s);
          CHECK(table == support::with_safe_transfers(policy.orders(s), rank_of));
          CHECK(support::channel_orders_agree(table, rank_of));
          CHECK(support::channel_orders_agree(table, rank_of, support::channel_for::all_traffic));
          CHECK(support::completes_by_rendezvous(table, rank_of));
          CHECK_EQ(support::brute_force(support::programs_of_table(table, s, rank_of, pw::weight_rule::synchronous)),
                   "");
          CHECK(support::check(table).ok());
          CHECK(support::check(policy.orders(s)).ok());  // compute actions only: lowered and verified
        }
}

TEST_CASE("schedules of the literature, given as tables") {
  for (auto const& [compute, rank_of] :
       {std::pair{zero_bubble_v, std::vector{0, 1, 1, 0}}, std::pair{zero_bubble_1p, std::vector{0, 1, 0, 1}}}) {
    auto const table = support::with_safe_transfers(compute, rank_of);
    REQUIRE_FALSE(table.empty());
    CHECK(support::channel_orders_agree(table, rank_of));
    CHECK(support::completes_by_rendezvous(table, rank_of));
    CHECK_EQ(support::brute_force(support::programs_of_table(table, {2, 4, 2}, rank_of, pw::weight_rule::synchronous)),
             "");
    CHECK(support::check(table).ok());
    CHECK(support::check(compute).ok());
  }
}

TEST_CASE("negative control: a receive just before its use stalls where every transfer blocks") {
  auto const policy = support::policy_of<pw::interleaved<>>;
  auto const s = policy.complete({2, 2, 2});
  auto const rank_of = policy.placement(s);
  auto const table = support::with_deferred_receives(library_table(policy, s));
  CHECK_FALSE(support::completes_by_rendezvous(table, rank_of));
  CHECK(support::brute_force(support::programs_of_table(table, s, rank_of, pw::weight_rule::synchronous))
            .find("waits for ever") != std::string::npos);
  CHECK(support::check(table).broken == pw::rule::deadlock);
}

TEST_CASE("negative control: a receive just before its use changes the order of ZBV's channels") {
  std::vector const rank_of{0, 1, 1, 0};
  auto const table = support::with_deferred_receives(support::with_safe_transfers(zero_bubble_v, rank_of));
  CHECK_FALSE(support::channel_orders_agree(table, rank_of, support::channel_for::all_traffic));
  CHECK_NE(support::brute_force(support::programs_of_table(table, {2, 4, 2}, rank_of, pw::weight_rule::synchronous)),
           "");
  CHECK_FALSE(support::check(table).ok());
}

TEST_CASE("deferred receives: the three judges agree on every schedule and shape") {
  int safe = 0, stalled = 0;
  for (auto const& policy : judged)
    for (int p = 2; p <= 8; ++p)
      for (int const m : {1, 2, 3, 4, 8, 16})
        for (int v = 0; v <= (policy.name == "interleaved" ? 3 : 0); ++v) {
          auto const s = policy.complete({p, m, v});
          if (!policy.check(s).ok()) continue;
          CAPTURE(policy.name);
          CAPTURE(support::describe(s));
          auto const rank_of = policy.placement(s);
          auto const table = support::with_deferred_receives(library_table(policy, s));
          bool const completes = support::completes_by_rendezvous(table, rank_of);
          ++(completes ? safe : stalled);
          auto const programs = support::programs_of_table(table, s, rank_of, pw::weight_rule::synchronous);
          CHECK_EQ(support::brute_force(programs).empty(), completes);
          CHECK_EQ(support::check(table).ok(), completes);
        }
  MESSAGE(safe << " tables with deferred receives complete, " << stalled << " stall");
  CHECK(safe > 50);
  CHECK(stalled > 50);
}
