// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/plan/check_table.hpp>
#include <pipewright/plan/fault_report.hpp>
#include <pipewright/plan/rendezvous.hpp>
#include <pipewright/schedule/named.hpp>

namespace pw = pipewright;

namespace {

pw::verdict check(std::string_view csv, pw::table_options const& options = {}) {
  return pw::check_table(pw::parse_csv(csv).orders.view(), options);
}

void breaks(std::string_view csv, pw::rule broken, int rank, int position, std::string_view at,
            pw::table_options const& options = {}) {
  auto const found = check(csv, options);
  CAPTURE(csv);
  CHECK(pw::name_of(found.broken) == pw::name_of(broken));
  CHECK(found.rank == rank);
  CHECK(found.position == position);
  CHECK(pw::action_text(found.at).view() == at);
}

using rows = std::vector<std::vector<pw::action>>;

pw::rows<pw::action> block_of(rows const& from) {
  std::size_t total = 0;
  for (auto const& row : from) total += row.size();
  pw::rows<pw::action> result(static_cast<int>(from.size()), total);
  std::size_t next = 0;
  for (std::size_t r = 0; r < from.size(); ++r) {
    for (auto const a : from[r]) result.items[next++] = a;
    result.first[r + 1] = next;
  }
  return result;
}

rows rows_of(pw::rows_view<pw::action> from) {
  rows result;
  for (int r = 0; r < from.count; ++r) result.emplace_back(from[r].begin(), from[r].end());
  return result;
}

/// Runs a table as a person would: ranks do the action at their head when they can; a SEND and its RECV go together,
/// when both stand at the heads. True if everything is done once, in order, and nobody is left standing.
bool runs_by_hand(rows const& table) {
  std::map<int, std::size_t> home;
  int stages = 0, micro_batches = 0;
  for (std::size_t r = 0; r < table.size(); ++r)
    for (auto const a : table[r]) {
      if (home.emplace(a.stage, r).first->second != r) return false;  // a stage on two ranks
      stages = std::max(stages, a.stage + 1);
      micro_batches = std::max(micro_batches, a.micro_batch + 1);
    }
  using key = std::tuple<char, int, int>;
  std::set<key> done;  // f i w: computed, r: input received, g: gradient received, s t: sent on
  bool backward = false;
  for (auto const& row : table)
    for (auto const a : row)
      backward = backward || a.what == pw::kind::backward || a.what == pw::kind::backward_input ||
                 a.what == pw::kind::backward_weight;
  auto has = [&](char what, int s, int m) { return done.count({what, s, m}) > 0; };
  auto once = [&](char what, int s, int m) { return done.insert({what, s, m}).second; };
  std::vector<std::size_t> at(table.size());
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t r = 0; r < table.size(); ++r) {
      if (at[r] == table[r].size()) continue;
      auto const a = table[r][at[r]];
      int const s = a.stage, m = a.micro_batch;
      auto same_rank = [&](int other) { return home.count(other) > 0 && home[other] == r; };
      auto input = [&] { return s == 0 || (same_rank(s - 1) ? has('f', s - 1, m) : has('r', s, m)); };
      auto gradient = [&] { return s + 1 == stages || (same_rank(s + 1) ? has('i', s + 1, m) : has('g', s, m)); };
      switch (a.what) {
        case pw::kind::forward:
          if (!input()) continue;
          if (!once('f', s, m)) return false;
          break;
        case pw::kind::backward:
        case pw::kind::backward_input:
          if (!has('f', s, m)) return false;
          if (!gradient()) continue;
          if (!once('i', s, m) || (a.what == pw::kind::backward && !once('w', s, m))) return false;
          break;
        case pw::kind::backward_weight:
          if (!has('i', s, m) || !once('w', s, m)) return false;
          break;
        default: {
          if (!pw::is_send(a.what)) continue;  // a receive waits for its send
          bool const forward = a.what == pw::kind::send_forward;
          int const to = forward ? s + 1 : s - 1;
          if (home.count(to) == 0 || home[to] == r || !has(forward ? 'f' : 'i', s, m)) return false;
          std::size_t const peer = home[to];
          auto const wanted = pw::make_action(forward ? pw::kind::receive_forward : pw::kind::receive_backward, to, m);
          if (at[peer] == table[peer].size() || table[peer][at[peer]] != wanted) continue;
          if (!once(forward ? 's' : 't', s, m) || !once(forward ? 'r' : 'g', to, m)) return false;
          ++at[peer];
        }
      }
      ++at[r];
      moved = true;
    }
  }
  for (std::size_t r = 0; r < table.size(); ++r)
    if (at[r] < table[r].size()) return false;
  for (int s = 0; s < stages; ++s)
    for (int m = 0; m < micro_batches; ++m)
      if (!has('f', s, m) || (backward && (!has('i', s, m) || !has('w', s, m)))) return false;
  return true;
}

/// Derives a table with every RECV right before its consumer, which looks natural and hangs.
rows receive_just_before_use(rows const& orders, std::vector<int> const& rank_of_stage) {
  int const stages = static_cast<int>(rank_of_stage.size());
  auto rank = [&](int s) { return rank_of_stage[s]; };
  rows result(orders.size());
  for (std::size_t r = 0; r < orders.size(); ++r)
    for (auto const a : orders[r]) {
      int const s = a.stage, m = a.micro_batch;
      bool const forward = a.what == pw::kind::forward, gives = pw::gives_input_gradient(a.what);
      if (forward && s > 0 && rank(s - 1) != rank(s))
        result[r].push_back(pw::make_action(pw::kind::receive_forward, s, m));
      if (gives && s + 1 < stages && rank(s + 1) != rank(s))
        result[r].push_back(pw::make_action(pw::kind::receive_backward, s, m));
      result[r].push_back(a);
      if (forward && s + 1 < stages && rank(s + 1) != rank(s))
        result[r].push_back(pw::make_action(pw::kind::send_forward, s, m));
      if (gives && s > 0 && rank(s - 1) != rank(s)) result[r].push_back(pw::make_action(pw::kind::send_backward, s, m));
    }
  return result;
}

constexpr std::string_view zbv =  // P = 2, M = 4, V placement
    "0F0,0F1,0F2,3F0,3I0,3W0,3F1,3I1,3W1,0F3,0I0,0W0,3F2,3I2,3W2,0I1,0W1,3F3,3I3,3W3,0I2,0W2,0I3,0W3\n"
    "1F0,2F0,1F1,2F1,2I0,2W0,1F2,1I0,1W0,2F2,2I1,2W1,1F3,1I1,1W1,2F3,2I2,2W2,1I2,2I3,1I3,1W2,2W3,1W3\n";

}  // namespace

TEST_CASE("tables of the literature are sound") {
  CHECK(check("0F0,0F1,0B0,0F2,0B1,0F3,0B2,0B3\n1F0,1B0,1F1,1B1,1F2,1B2,1F3,1B3\n").ok());  // 1F1B
  CHECK(check("0F0,0F1,0I0,0W0,0F2,0I1,0W1,0F3,0I2,0W2,0I3,0W3\n1F0,1I0,1F1,1I1,1W0,1F2,1I2,1W1,1F3,1I3,1W2,1W3\n")
            .ok());                                                                         // ZB-H1
  CHECK(check("0F0,0F1,2F0,2F1,2B1,2B0,0B1,0B0\n1F0,1F1,3F0,3F1,3B1,3B0,1B1,1B0\n").ok());  // breadth-first
  CHECK(check(zbv).ok());
  CHECK(check("0F0,0F1,0F2,3F0,3I0,3W0,3F1,(0F3;3B1)OVERLAP_F_B,(3F2;0B0)OVERLAP_F_B,3B2,(3F3;0B1)OVERLAP_F_B,3B3,0I2,"
              "0W2,0I3,0W3\n"
              "1F0,2F0,1F1,2F1,1F2,2B0,(2F2;1B0)OVERLAP_F_B,(1F3;2B1)OVERLAP_F_B,(2F3;1B1)OVERLAP_F_B,2B2,1B2,2I3,1I3,"
              "2W3,1W3\n")
            .ok());  // DualPipeV
  // PyTorch's lowering of 1F1B, P = 2, M = 3, with its sends and receives
  CHECK(check("0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0F2,0SEND_F2,0RECV_B1,0B1,0RECV_B2,0B2\n"
              "1RECV_F0,1F0,1RECV_F1,1B0,1SEND_B0,1F1,1RECV_F2,1B1,1SEND_B1,1F2,1B2,1SEND_B2\n")
            .ok());
  CHECK(check("0F0\n1F0\n").ok());  // evaluation
}

TEST_CASE("each fault has its rule and place") {
  using enum pw::rule;
  breaks("0F0,0F1,0B0,0B1\n1F0,1B0,1F1\n", complete, 1, 3, "1B1");
  breaks("0F0,0F1,0B0,0B1\n1F0,1B0,1F0,1F1,1B1\n", complete, 1, 2, "1F0");
  breaks("0F0,0B0\n1B0,1F0\n", complete, 1, 0, "1B0");
  breaks("0F0,0W0,0I0\n", complete, 0, 1, "0W0");
  breaks("3F0,3B0\n", complete, 0, 2, "0F0");
  breaks("0F0,0F1,0B0,0B1\n1F0,1B0,1F1,0B1\n", placement, 1, 3, "0B1");
  breaks("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n", feasible, 0, 1, "0B0");
  breaks("0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n1RECV_F1,1F1,1RECV_F0,1F0,1B0,1SEND_B0,1B1,1SEND_B1\n",
         channels, 0, 1, "0SEND_F0");
  breaks("0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n1RECV_F0,1F0,1B0,1SEND_B0,1RECV_F1,1F1,1B1,1SEND_B1\n",
         deadlock, 0, 3, "0SEND_F1");
  breaks("0F0,0B0\n1RECV_F0,1F0,1B0,1SEND_B0\n", feasible, 0, 1, "0B0");
  // idle cells do not count; a cell's number is another matter
  breaks("0F0,,0F1,,,0B0,0B1\n,1F0,,1B0,1F0,1F1,1B1\n", complete, 1, 2, "1F0");
}

TEST_CASE("where stages stand can be said, and is then held against the table") {
  std::vector<int> const v{0, 1, 1, 0}, loop{0, 1, 0, 1};
  CHECK(check(zbv, {.rank_of_stage = v}).ok());
  breaks(zbv, pw::rule::placement, 0, 3, "3F0", {.rank_of_stage = loop});
  breaks("0F0\n1F0\n", pw::rule::placement, 1, 0, "1F0", {.rank_of_stage = {0}});
  breaks("0F0\n1F0\n", pw::rule::complete, 1, 1, "2F0", {.rank_of_stage = v});
  CHECK_THROWS_WITH_AS(check("0F0\n1F0\n", {.rank_of_stage = {0, 2}}),
                       doctest::Contains("names rank 2, but the table has 2 ranks"), pw::error);
  // any placement: ranks in another order, ranks of different size, a rank without a stage
  CHECK(check("1F0,1B0\n0F0,0B0\n").ok());
  CHECK(check("0F0,2F0,2B0,0B0\n1F0,1B0\n").ok());
  CHECK(
      check("0F0,0SEND_F0,2RECV_F0,2F0,2B0,2SEND_B0,0RECV_B0,0B0\n1RECV_F0,1F0,1SEND_F0,1RECV_B0,1B0,1SEND_B0\n").ok());
  CHECK(check("0F0,0B0\n\n1F0,1B0\n").ok());
}

TEST_CASE("weight rules are held against a table") {
  using enum pw::rule;
  pw::table_options const stash{.weights = pw::weight_rule::stashing},
      buffered{.weights = pw::weight_rule::double_buffered, .batches = 2};
  std::string_view const one_f_one_b = "0F0,0F1,0B0,0F2,0B1,0F3,0B2,0B3\n1F0,1B0,1F1,1B1,1F2,1B2,1F3,1B3\n";
  std::string_view const gpipe = "0F0,0F1,0F2,0F3,0B0,0B1,0B2,0B3\n1F0,1F1,1F2,1F3,1B0,1B1,1B2,1B3\n";
  CHECK(check(one_f_one_b, stash).ok());
  CHECK(check(one_f_one_b, buffered).ok());
  CHECK(check(gpipe).ok());
  breaks(gpipe, weights, 0, 2, "0F2", stash);
  CHECK(check("1F0,1B0,1F1,1B1,1F2,1B2,1F3,1B3\n0F0,0F1,0B0,0F2,0B1,0F3,0B2,0B3\n", stash).ok());  // stage 0 on rank 1
  CHECK_THROWS_WITH_AS(check("0F0,1F0,1B0,0B0\n", stash), doctest::Contains("one stage a rank"), pw::error);
  CHECK_THROWS_WITH_AS(check("0F0,0B0\n", buffered), doctest::Contains("do not make 2 batches"), pw::error);
  CHECK_THROWS_WITH_AS(check("0F0,0B0,0SEND_T\n"), doctest::Contains("0SEND_T has no place in a table"), pw::error);
  CHECK_THROWS_WITH_AS(check("0F0,0R0,0B0\n"), doctest::Contains("0R0 has no place in a table"), pw::error);
  CHECK_THROWS_WITH_AS(check("0F0,0B0,0POST_F0\n"), doctest::Contains("position 2: 0POST_F0 has no place in a table"),
                       pw::error);
}

TEST_CASE("an absurd table is refused without room for what it lacks") {
  breaks("0F0,0F67108863\n", pw::rule::complete, 0, 2, "0F1");
  breaks("65534F67108863\n", pw::rule::complete, 0, 1, "0F0");
}

TEST_CASE("the derived tables of every schedule run by hand and are sound") {
  pw::for_each_schedule(pw::all_schedules{}, [](auto policy) {
    using schedule = typename decltype(policy)::type;
    for (int ranks = 1; ranks <= 5; ++ranks)
      for (int micro_batches = 1; micro_batches <= 9; ++micro_batches) {
        auto const s = pw::complete<schedule>({ranks, micro_batches});
        if (!pw::check_shape<schedule>(s).ok()) continue;
        auto const orders = pw::orders_of<schedule>(s);
        auto const places = pw::placement_of<schedule>(s);
        auto const met = pw::meet(orders.view(), s, places.data(), schedule::backward);
        auto const table = pw::rendezvous_table(orders.view(), met, s, places.data());
        pw::table_options const options{.weights = schedule::weights};
        CAPTURE(schedule::name);
        CAPTURE(ranks);
        CAPTURE(micro_batches);
        CHECK(runs_by_hand(rows_of(table.view())));
        CHECK(pw::check_table(orders.view(), options).ok());
        CHECK(pw::check_table(table.view(), options).ok());
      }
  });
}

TEST_CASE("receives right before their use hang") {
  // interleaved, P = V = 2, M = 2: the sends stand in front of one another
  auto const s = pw::complete<pw::interleaved<2>>({2, 2});
  auto const orders = rows_of(pw::orders_of<pw::interleaved<2>>(s).view());
  auto const interleaved = receive_just_before_use(orders, {0, 1, 0, 1});
  CHECK_FALSE(runs_by_hand(interleaved));
  CHECK(pw::check_table(block_of(interleaved).view()).broken == pw::rule::deadlock);
  // ZBV: and a channel's receives come in another order than its sends
  auto const broken = receive_just_before_use(rows_of(pw::parse_csv(zbv).orders.view()), {0, 1, 1, 0});
  CHECK_FALSE(runs_by_hand(broken));
  CHECK_FALSE(pw::check_table(block_of(broken).view()).ok());
}

TEST_CASE("a table is sound exactly when it runs by hand") {
  std::mt19937 random(1811);
  int sound = 0, broken = 0;
  std::vector<rows> tables;
  auto add = [&](auto policy, pw::shape shape) {
    using schedule = decltype(policy);
    auto const s = pw::complete<schedule>(shape);
    auto const orders = pw::orders_of<schedule>(s);
    auto const places = pw::placement_of<schedule>(s);
    auto const met = pw::meet(orders.view(), s, places.data(), schedule::backward);
    tables.push_back(rows_of(pw::rendezvous_table(orders.view(), met, s, places.data()).view()));
  };
  add(pw::gpipe{}, {2, 3});
  add(pw::flush{}, {3, 4});
  add(pw::interleaved<2>{}, {2, 4});
  add(pw::sequential{}, {3, 2});
  add(pw::forward_only{}, {2, 3, 2});
  for (int round = 0; round < 6000; ++round) {
    rows mutant = tables[random() % tables.size()];
    auto& row = mutant[random() % mutant.size()];
    std::size_t const at = random() % row.size(), other = random() % row.size();
    switch (random() % 5) {
      case 0: std::swap(row[at], row[other]); break;
      case 1: std::swap(row[at], row[std::min(at + 1, row.size() - 1)]); break;
      case 2: row.erase(row.begin() + static_cast<std::ptrdiff_t>(at)); break;
      case 3: row.insert(row.begin() + static_cast<std::ptrdiff_t>(other), row[at]); break;
      default:
        if (random() % 2 == 0) row[at].micro_batch = static_cast<int>(random() % 4);
        else row[at].stage = static_cast<std::uint16_t>(random() % 4);
    }
    bool transfers = false;
    for (auto const& r : mutant)
      for (auto const a : r) transfers = transfers || !pw::is_compute(a.what);
    if (!transfers || row.empty()) continue;  // that one would be lowered
    bool const by_hand = runs_by_hand(mutant);
    auto const block = block_of(mutant);
    CAPTURE(pw::csv_of(block.view()));
    auto const found = pw::check_table(block.view());
    CHECK(found.ok() == by_hand);
    ++(by_hand ? sound : broken);
    if (!found.ok()) {
      CHECK(found.rank >= 0);
      CHECK(found.rank < static_cast<int>(mutant.size()));
      CHECK(found.position <= static_cast<int>(mutant[found.rank].size()));
      CHECK(pw::fault_grid(block.view(), found).find('^') != std::string::npos);
    }
  }
  CHECK(sound > 100);
  CHECK(broken > 3000);
}

TEST_CASE("a fault is shown at its place") {
  auto const table = pw::parse_csv("0F0,0F1,0B0,0B1\n1F0,1B0,1F1\n");
  auto const missing = pw::check_table(table.orders.view());
  CHECK(pw::fault_line(missing, 3) ==
        "rule complete, rank 1, position 3 (the end of the row), action 1B1 is missing: every stage and micro-batch "
        "needs F once, then B once (or "
        "I once, then W once)");
  CHECK(pw::fault_grid(table.orders.view(), missing) ==
        "rank 0 | 0F0 0F1 0B0 0B1\n"
        "rank 1 | 1F0 1B0 1F1\n"
        "       |             ^ 1B1 is missing\n");
  auto const early = pw::parse_csv("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n");
  CHECK(pw::fault_grid(early.orders.view(), pw::check_table(early.orders.view())) ==
        "rank 0 | 0F0 0B0 0F1 0B1\n"
        "       |     ^^^ here\n"
        "rank 1 | 1F0 1F1 1B0 1B1\n");
  // a long table is cut around the fault
  std::string wide;
  for (int m = 0; m < 100; ++m) wide += (m > 0 ? ",0F" : "0F") + std::to_string(m == 70 ? 3 : m);
  auto const cut = pw::parse_csv(wide);
  auto const found = pw::check_table(cut.orders.view());
  auto const grid = pw::fault_grid(cut.orders.view(), found);
  CHECK(found.position == 70);
  CHECK(grid.find("^^^ here") != std::string::npos);
  CHECK(grid.find("rank 0 | ... ") == 0);
  CHECK(grid.find("0F69 0F3  0F71") != std::string::npos);
  for (std::size_t at = 0, line = 0; at < grid.size(); ++at) {
    line = grid[at] == '\n' ? 0 : line + 1;
    CHECK(line <= 140);
  }
}
