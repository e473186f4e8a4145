// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/schedule/named.hpp>
#include <pipewright/schedule/notation.hpp>

namespace pw = pipewright;

namespace {

template<class Policy> constexpr std::vector<pw::action> order(pw::shape s, int rank) {
  std::vector<pw::action> result;
  Policy::order(pw::complete<Policy>(s), rank, [&](pw::action a) { result.push_back(a); });
  return result;
}

/// Whether a row prints as that text, in the compiler too (where std::string is not usable everywhere).
constexpr bool prints_as(std::vector<pw::action> const& row, std::string_view text) {
  std::vector<char> written;
  pw::write_actions({row.data(), row.size()}, " ",
                    [&](std::string_view piece) { written.insert(written.end(), piece.begin(), piece.end()); });
  return std::string_view(written.data(), written.size()) == text;
}

constexpr bool is_order_of(std::vector<pw::action> const& row, std::string_view text) {
  return pw::actions(text) == row && prints_as(row, text);
}

constexpr pw::notation_fault fault_of(std::string_view text) {
  return pw::parse_actions(text, [](pw::action) {});
}

constexpr bool breaks(std::string_view text, pw::notation_rule broken, int column) {
  return fault_of(text) == pw::notation_fault{broken, column};
}

}  // namespace

#define TWICE(...)              \
  do {                          \
    static_assert(__VA_ARGS__); \
    CHECK(__VA_ARGS__);         \
  } while (false)

// The texts are those of the literature: GPipe 1811.06965, PipeDream-Flush 2006.09503, Megatron SC'21, PyTorch.
TEST_CASE("orders read and print as the field writes them") {
  TWICE(is_order_of(order<pw::gpipe>({2, 3}, 0), "0F0 0F1 0F2 0B0 0B1 0B2"));
  TWICE(is_order_of(order<pw::flush>({2, 4}, 0), "0F0 0F1 0B0 0F2 0B1 0F3 0B2 0B3"));
  TWICE(is_order_of(order<pw::flush>({2, 4}, 1), "1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3"));
  TWICE(is_order_of(order<pw::interleaved<2>>({2, 4}, 0),
                    "0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3"));
  TWICE(is_order_of(order<pw::interleaved<2>>({2, 4}, 1),
                    "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3"));
}

TEST_CASE("a table that is not ours reads and prints unchanged") {
  constexpr std::string_view dual_pipe_v =
      "0F0 0F1 0F2 3F0 3I0 3W0 3F1 (0F3;3B1)OVERLAP_F_B (3F2;0B0)OVERLAP_F_B 3B2 (3F3;0B1)OVERLAP_F_B 3B3 0I2 0W2 0I3 "
      "0W3";
  TWICE(prints_as(pw::actions(dual_pipe_v), dual_pipe_v));
  TWICE(pw::actions("(0F3;3B1)OVERLAP_F_B").size() == 2);
  TWICE(pw::actions("(0F3;3B1)OVERLAP_F_B")[0] == pw::action{pw::kind::forward, true, 0, 3});
  TWICE(pw::actions("(0F3;3B1)OVERLAP_F_B")[1] == pw::action{pw::kind::backward, false, 3, 1});
  TWICE(pw::actions("2SEND_F7")[0] == pw::action{pw::kind::send_forward, false, 2, 7});
  TWICE(pw::actions("1REDUCE_GRAD")[0] == pw::action{pw::kind::reduce_gradient, false, 1, 0});
  TWICE(prints_as(pw::actions("1UNSHARD 1F0 1RESHARD 1REDUCE_GRAD 1UPDATE"),
                  "1UNSHARD 1F0 1RESHARD 1REDUCE_GRAD 1UPDATE"));
}

TEST_CASE("every kind goes there and back") {
  for (int k = 0; k <= static_cast<int>(pw::kind::reduce_gradient); ++k) {
    auto const what = static_cast<pw::kind>(k);
    REQUIRE(!pw::name_of(what).empty());
    pw::action const a = pw::make_action(what, 17, pw::has_micro_batch(what) ? 203 : 0);
    CHECK(pw::actions(pw::action_text(a).view()) == std::vector{a});
  }
}

TEST_CASE("every schedule of the library goes there and back") {
  pw::for_each_schedule(pw::all_schedules{}, [](auto policy) {
    using schedule = typename decltype(policy)::type;
    for (int ranks : {1, 2, 5})
      for (int micro_batches : {4, 9})
        for (int rank = 0; rank < ranks; ++rank) {
          auto const row = order<schedule>({ranks, micro_batches}, rank);
          CHECK(pw::actions(pw::text_of(row)) == row);
        }
  });
}

TEST_CASE("random actions go there and back") {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<pw::action> row(random() % 20);
    for (auto& a : row) {
      a = pw::make_action(static_cast<pw::kind>(random() % (1 + static_cast<unsigned>(pw::kind::reduce_gradient))),
                          static_cast<int>(random() % pw::max_stages), 0);
      if (pw::has_micro_batch(a.what)) a.micro_batch = static_cast<int>(random() % pw::max_micro_batches);
    }
    if (row.size() > 2) row[0].overlapped = true;
    CHECK(pw::actions(pw::text_of(row)) == row);
  }
}

TEST_CASE("a bad text is refused where it is bad") {
  using enum pw::notation_rule;
  TWICE(breaks("", none, 0));
  TWICE(breaks("  0F0  ", none, 0));
  TWICE(breaks("F0", stage, 1));
  TWICE(breaks("0F0 0B0 x", stage, 9));
  TWICE(breaks("0F0 -1F0", stage, 5));
  TWICE(breaks("0X0", kind_of_action, 2));
  TWICE(breaks("0f0", kind_of_action, 2));
  TWICE(breaks("0 F0", kind_of_action, 2));
  TWICE(breaks("0F0 12SENDF0", kind_of_action, 7));
  TWICE(breaks("0F", micro_batch, 3));
  TWICE(breaks("0F 0", micro_batch, 3));
  TWICE(breaks("0SEND_F", micro_batch, 8));
  TWICE(breaks("65535F0", stage_too_large, 1));
  TWICE(breaks("65534F67108863", none, 0));
  TWICE(breaks("0F67108864", micro_batch_too_large, 3));
  TWICE(breaks("0F99999999999999999999999999", micro_batch_too_large, 3));
  TWICE(breaks("0F0,0B0", end_of_action, 4));
  TWICE(breaks("0UPDATE0", end_of_action, 8));
  TWICE(breaks("(0F0)OVERLAP_F_B", pair, 5));
  TWICE(breaks("(0F0;0B0", pair, 9));
  TWICE(breaks("(0F0;0B0)", pair_name, 10));
  TWICE(breaks("(0F0;0B0)OVERLAP", pair_name, 10));
  TWICE(breaks("(0F0; 0B0)OVERLAP_F_B", stage, 6));
  TWICE(breaks("0F0 ((0F0;0B0)OVERLAP_F_B;0B1)OVERLAP_F_B", stage, 6));
  CHECK_THROWS_WITH_AS(pw::actions("0F0 0Q0"), doctest::Contains("column 6: a kind of action is expected"), pw::error);
}

TEST_CASE("no text of any bytes is a crash") {
  std::mt19937 random(11);
  std::string_view const letters = "0123456789FBIWRSENDCVPOTAUHL_(); \t\n,xyz\xFF";
  for (int round = 0; round < 20'000; ++round) {
    std::string text(random() % 24, ' ');
    for (auto& c : text) c = letters[random() % letters.size()];
    std::vector<pw::action> row;
    auto const fault = pw::parse_actions(text, [&](pw::action a) { row.push_back(a); });
    if (fault.ok()) {
      CHECK(pw::actions(pw::text_of(row)) == row);
    } else {
      CHECK(fault.column >= 1);
      CHECK(fault.column <= static_cast<int>(text.size()) + 1);
      CHECK(std::string_view(pw::sentence(fault.broken)).size() > 10);
    }
  }
}
