// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/schedule/csv.hpp>
#include <pipewright/schedule/named.hpp>

namespace pw = pipewright;

namespace {

constexpr pw::csv_fault fault_of(std::string_view text) {
  pw::table ignored;
  return pw::parse_csv(text, ignored);
}

constexpr bool breaks(std::string_view text, pw::notation_rule broken, int line, int column) {
  return fault_of(text) == pw::csv_fault{broken, line, column};
}

/// Row r of the table as text.
std::string row(pw::table const& t, int r) { return pw::text_of(t.orders.view()[r]); }

}  // namespace

#define TWICE(...)              \
  do {                          \
    static_assert(__VA_ARGS__); \
    CHECK(__VA_ARGS__);         \
  } while (false)

TEST_CASE("a table as PyTorch writes it") {
  // 1F1B, P = 2, M = 3, with idle cells as in PyTorch's compute-only dumps
  auto const t = pw::parse_csv("0F0,0F1,,0B0,0F2,,0B1,,0B2\r\n,1F0,1B0,1F1,1B1,1F2,1B2,,\r\n");
  CHECK(t.orders.count() == 2);
  CHECK(row(t, 0) == "0F0 0F1 0B0 0F2 0B1 0B2");
  CHECK(row(t, 1) == "1F0 1B0 1F1 1B1 1F2 1B2");
  CHECK(t.cells.view()[0][2] == 3);
  CHECK(t.cells.view()[1][0] == 1);
  CHECK_FALSE(pw::has_transfers(t.orders.view()));
  CHECK(pw::stages_of(t.orders.view()) == 2);
  CHECK(pw::micro_batches_of(t.orders.view()) == 3);
  CHECK(pw::ranks_of_stages(t.orders.view()) == std::vector{0, 1});
  CHECK(pw::csv_of(t.orders.view()) == "0F0,0F1,0B0,0F2,0B1,0B2\n1F0,1B0,1F1,1B1,1F2,1B2\n");
}

TEST_CASE("a lowered table as PyTorch writes it") {
  auto const t = pw::parse_csv(
      "0UNSHARD,0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1,0REDUCE_GRAD,0RESHARD\n"
      "1UNSHARD,1RECV_F0,1WAIT_RECV_F0,1F0,1RECV_F1,1B0,1SEND_B0,1WAIT_F1,1F1,1B1,1SEND_B1,1WAIT,1REDUCE_GRAD,"
      "1RESHARD\n");
  CHECK(row(t, 0) == "0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0RECV_B1 0B1");
  CHECK(row(t, 1) == "1RECV_F0 1F0 1RECV_F1 1B0 1SEND_B0 1F1 1B1 1SEND_B1");
  CHECK(pw::has_transfers(t.orders.view()));
}

TEST_CASE("a V placement is read from where the actions stand") {
  // ZBV, P = 2, M = 4
  auto const t = pw::parse_csv(
      "0F0,0F1,0F2,3F0,3I0,3W0,3F1,3I1,3W1,0F3,0I0,0W0,3F2,3I2,3W2,0I1,0W1,3F3,3I3,3W3,0I2,0W2,0I3,0W3\n"
      "1F0,2F0,1F1,2F1,2I0,2W0,1F2,1I0,1W0,2F2,2I1,2W1,1F3,1I1,1W1,2F3,2I2,2W2,1I2,2I3,1I3,1W2,2W3,1W3\n");
  CHECK(pw::stages_of(t.orders.view()) == 4);
  CHECK(pw::ranks_of_stages(t.orders.view()) == std::vector{0, 1, 1, 0});
}

TEST_CASE("blanks, byte order marks and lines") {
  TWICE(pw::parse_csv("\xEF\xBB\xBF 0F0 ,\t0B0 ").orders.view()[0].size() == 2);
  TWICE(pw::parse_csv("0F0,0B0").orders.count() == 1);
  TWICE(pw::parse_csv("0F0,0B0\n\n\r\n \n").orders.count() == 1);    // empty lines at the end are no ranks
  TWICE(pw::parse_csv("0F0,0B0\n\n1F0,1B0\n").orders.count() == 3);  // in between they are
  TWICE(pw::parse_csv("(0F3;3B1)OVERLAP_F_B,0B0").orders.view()[0].size() == 3);
}

TEST_CASE("what cannot be read is refused with line and column") {
  using enum pw::notation_rule;
  TWICE(breaks("", nothing, 1, 1));
  TWICE(breaks("\n\n , ,\n", nothing, 1, 1));
  TWICE(breaks("0UNSHARD\n", nothing, 1, 1));
  TWICE(breaks("0F0,0B0\n1F0,1X0\n", kind_of_action, 2, 6));
  TWICE(breaks("0F0,  hello\n", stage, 1, 7));
  TWICE(breaks("0F0;0B0\n", end_of_action, 1, 4));
  TWICE(breaks("0F0 0B0\n", end_of_action, 1, 4));
  TWICE(breaks("0F0\n1F0,1F99999999999\n", micro_batch_too_large, 2, 7));
  TWICE(breaks("70000F0\n", stage_too_large, 1, 1));
  TWICE(breaks("70000UNSHARD\n", stage_too_large, 1, 1));
  TWICE(breaks("0F0,0RESHARDED\n", kind_of_action, 1, 6));
  TWICE(breaks("0F0,(0F1;0B0)\n", pair_name, 1, 14));
  CHECK_THROWS_WITH_AS(pw::parse_csv("0F0\n1Z0\n"), doctest::Contains("line 2, column 2: a kind of action"), pw::error);

  std::string many = "0F0";
  for (int i = 0; i < pw::max_stages; ++i) many += '\n';
  CHECK(breaks(many + "1F0", ranks_too_many, pw::max_stages + 1, 1));

  pw::table kept = pw::parse_csv("0F0,0B0");
  CHECK_FALSE(pw::parse_csv("0F0,0?0", kept).ok());
  CHECK(row(kept, 0) == "0F0 0B0");
}

TEST_CASE("every schedule of the library goes there and back as CSV") {
  pw::for_each_schedule(pw::all_schedules{}, [](auto policy) {
    using schedule = typename decltype(policy)::type;
    for (int ranks : {1, 2, 4, 7})
      for (int micro_batches : {7, 8, 16}) {
        auto const s = pw::complete<schedule>({ranks, micro_batches});
        std::vector<std::vector<pw::action>> rows(static_cast<std::size_t>(ranks));
        std::string text;
        for (int r = 0; r < ranks; ++r) {
          schedule::order(s, r, [&](pw::action a) { rows[r].push_back(a); });
          text += pw::text_of(rows[r], ",") + "\n";
        }
        auto const t = pw::parse_csv(text);
        REQUIRE(t.orders.count() == ranks);
        for (int r = 0; r < ranks; ++r) {
          auto const read = t.orders.view()[r];
          CHECK(std::vector<pw::action>(read.begin(), read.end()) == rows[r]);
        }
        CHECK(pw::csv_of(t.orders.view()) == text);
        CHECK(pw::stages_of(t.orders.view()) == s.stages());
        CHECK(pw::micro_batches_of(t.orders.view()) == micro_batches);
        for (int stage = 0; stage < s.stages(); ++stage)
          CHECK(pw::ranks_of_stages(t.orders.view())[stage] == schedule::rank_of(s, stage));
      }
  });
}

TEST_CASE("a thousand broken variants of a table are read or refused, never worse") {
  std::string const sound =
      "0UNSHARD,0F0,0SEND_F0,0F1,0SEND_F1,,0RECV_B0,0B0,0RECV_B1,0B1,0REDUCE_GRAD\n"
      ",1RECV_F0,1F0,1RECV_F1,1I0,1SEND_B0,1W0,(1F1;1B1)OVERLAP_F_B,1SEND_B1\n";
  std::string_view const pieces[] = {
      ",",     "\n", "F", "B",  "0",    "99999999999", "(",  ";",     ")OVERLAP_F_B",
      "SEND_", "_",  " ", "\r", "\xFF", "\"",          "-1", "WAIT_", std::string_view("\0", 1)};
  std::mt19937 random(2006);
  int refused = 0, read = 0;
  for (int round = 0; round < 1000; ++round) {
    std::string text = sound;
    for (unsigned edits = 1 + random() % 4; edits > 0; --edits) {
      std::size_t const at = random() % (text.size() + 1);
      switch (random() % 4) {
        case 0: text.erase(at, random() % 6); break;
        case 1: text.insert(at, pieces[random() % std::size(pieces)]); break;
        case 2:
          if (at < text.size()) text[at] = static_cast<char>(random());
          break;
        default: text.resize(at); break;
      }
    }
    pw::table t;
    auto const fault = pw::parse_csv(text, t);
    if (fault.ok()) {
      ++read;
      auto const again = pw::parse_csv(pw::csv_of(t.orders.view()));
      CHECK(pw::csv_of(again.orders.view()) == pw::csv_of(t.orders.view()));
    } else {
      ++refused;
      auto const lines = 1 + std::count(text.begin(), text.end(), '\n');
      CHECK(fault.line >= 1);
      CHECK(fault.line <= lines);
      CHECK(fault.column >= 1);
      CHECK(fault.column <= static_cast<int>(text.size()) + 1);
    }
  }
  CHECK(refused > 300);  // the variants are truly broken, and some are not
  CHECK(read > 30);
}
