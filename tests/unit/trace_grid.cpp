// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include <pipewright/plan/plan.hpp>
#include <pipewright/plan/steady.hpp>
#include <pipewright/trace/grid.hpp>

namespace pw = pipewright;

namespace {

template<class Policy> pw::trace traced(pw::shape s, pw::costs<double> const& cost = {}) {
  auto const plan = pw::make_unrolled_plan<Policy>(s);
  return pw::trace_of(plan.view(), pw::simulate(plan.view(), cost));
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

}  // namespace

// The grids are those one draws by hand from the orders of the literature: every action one unit of time.
TEST_CASE("grids of the literature") {
  CHECK(pw::grid(pw::make_plan<pw::flush>({2, 4})) ==
        "rank 0 | F0 F1 .. B0 F2 B1 F3 B2 .. B3 | bubble 2 of 10, in flight 2\n"
        "rank 1 | .. F0 B0 F1 B1 F2 B2 F3 B3 .. | bubble 2 of 10, in flight 1\n");
  CHECK(pw::grid(pw::make_plan<pw::gpipe>({3, 2})) ==
        "rank 0 | F0 F1 .. .. .. .. B0 B1 | bubble 4 of 8, in flight 2\n"
        "rank 1 | .. F0 F1 .. .. B0 B1 .. | bubble 4 of 8, in flight 2\n"
        "rank 2 | .. .. F0 F1 B0 B1 .. .. | bubble 4 of 8, in flight 2\n");
  CHECK(pw::grid(pw::make_plan<pw::sequential>({2, 1})) ==
        "rank 0 | F0 .. .. B0 | bubble 2 of 4, in flight 1\n"
        "rank 1 | .. F0 B0 .. | bubble 2 of 4, in flight 1\n");
  CHECK(pw::grid(pw::make_plan<pw::interleaved<2>>({2, 2})) ==
        "rank 0 | 0F0 0F1 2F0 2F1 ... 2B0 ... 2B1 0B0 0B1 | bubble 2 of 10, in flight 4\n"
        "rank 1 | ... 1F0 1F1 3F0 3B0 3F1 3B1 1B0 1B1 ... | bubble 2 of 10, in flight 3\n");
  CHECK(pw::grid(pw::make_plan<pw::forward_only>({2, 3})) ==
        "rank 0 | F0 F1 F2 .. | bubble 1 of 4, in flight 1\n"
        "rank 1 | .. F0 F1 F2 | bubble 1 of 4, in flight 1\n");
}

TEST_CASE("a stream's grid is its beginning, with the versions read") {
  CHECK(pw::grid(pw::make_plan<pw::one_f_one_b>({2, 4})) ==
        "rank 0 | F0 F1 .. B0 F2 B1 F3 B2 F4 B3 F5 B4 F6 B5 F7 B6 | bubble 1 of 16, in flight 2\n"
        "       | v0 v0    v0 v1 v0 v2 v1 v3 v2 v4 v3 v5 v4 v6 v5\n"
        "rank 1 | .. F0 B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 B5 F6 B6 F7 | bubble 1 of 16, in flight 1\n"
        "       |    v0 v0 v1 v1 v2 v2 v3 v3 v4 v4 v5 v5 v6 v6 v7\n");
  // 2BW, P = M = 2: batches 0..3 read versions 0, 0, 1, 2
  CHECK(pw::grid(pw::make_plan<pw::two_buffered>({2, 2})) ==
        "rank 0 | F0 F1 .. B0 F2 B1 F3 B2 F4 B3 F5 B4 | bubble 1 of 12, in flight 2\n"
        "       | v0 v0    v0 v0 v0 v0 v0 v1 v0 v1 v1\n"
        "rank 1 | .. F0 B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 | bubble 1 of 12, in flight 1\n"
        "       |    v0 v0 v0 v0 v0 v0 v0 v0 v1 v1 v1\n");
}

TEST_CASE("a chart follows the costs") {
  auto const t = traced<pw::flush>({2, 2});  // F 1, B 2
  CHECK(pw::chart(t) ==
        "rank 0 | F0 F1 .. .. B0--- .. B1--- | bubble 3 of 9, in flight 2\n"
        "rank 1 | .. F0 B0--- F1 B1--- .. .. | bubble 3 of 9, in flight 1\n");
  CHECK(pw::chart(t, {.legend = true}).find("F forward   B backward   .. idle (bubble)") != std::string::npos);
  auto const late = traced<pw::gpipe>({2, 1}, {.transfer = 0.5});  // columns of half a unit
  CHECK(pw::chart(late) ==
        "rank 0 | F0- . . . . . . . . B0----- | bubble 4 of 7, in flight 1\n"
        "rank 1 | . . . F0- B0----- . . . . . | bubble 4 of 7, in flight 1\n");
}

TEST_CASE("a chart breaks into panels and may be coloured") {
  auto const t = traced<pw::flush>({4, 8});
  auto const whole = pw::chart(t), panels = pw::chart(t, {.width = 60}), coloured = pw::chart(t, {.colour = true});
  CHECK(count(whole, "\n") == 4);
  CHECK(count(panels, "\n") % 5 == 4);
  CHECK(count(panels, "\n") > 4);
  CHECK(count(panels, "bubble") == 4);
  CHECK(count(panels, "B7") == 4);
  CHECK(count(whole, "\033") == 0);
  CHECK(count(coloured, "\033[48;5;117;30m") == 32);
  CHECK(count(coloured, "\033[48;5;215;30m") == 32);
  // every rank number has its room
  auto const many = pw::chart(traced<pw::gpipe>({12, 1}));
  CHECK(many.find("rank  0 |") == 0);
  CHECK(many.find("\nrank 11 |") != std::string::npos);
}

TEST_CASE("totals are those of the formulas") {
  for (int ranks : {1, 2, 4, 6})
    for (int micro_batches : {1, 3, 8}) {
      auto const totals = pw::totals_of(traced<pw::flush>({ranks, micro_batches}));
      CHECK(totals.length() == 3.0 * (micro_batches + ranks - 1));
      for (int r = 0; r < ranks; ++r) {
        CHECK(totals.busy[r] == 3.0 * micro_batches);
        CHECK(totals.in_flight[r] == std::min(micro_batches, ranks - r));
      }
      CHECK(totals.idle() == doctest::Approx(static_cast<double>(ranks - 1) / (micro_batches + ranks - 1)));
    }
}

TEST_CASE("an empty trace is drawn, too") {
  pw::trace const none{.title = "nothing", .ranks = 2};
  CHECK(pw::chart(none) ==
        "rank 0 | | bubble 0 of 0, in flight 0\n"
        "rank 1 | | bubble 0 of 0, in flight 0\n");
}

// PipeDream's steady state pays 2(P-1)c/P a micro-batch for an edge latency of c, and nothing without it.
TEST_CASE("the bubble of a stream's period") {
  for (int ranks : {1, 2, 3, 4, 5, 8})
    for (pw::rational const latency : {pw::rational(0), pw::rational(1, 4), pw::rational(2)}) {
      pw::costs<pw::rational> cost;
      cost.transfer = latency;
      pw::rational const paid = pw::rational(2 * (ranks - 1), ranks) * latency,
                         expected = paid / (pw::rational(3) + paid);
      CAPTURE(ranks);
      CHECK(pw::steady_bubble(pw::make_plan<pw::one_f_one_b>({ranks, 3}).view(), cost) == expected);
      CHECK(pw::steady_bubble(pw::make_plan<pw::one_f_one_b_vertical_sync>({ranks, 1}).view(), cost) == expected);
      CHECK(pw::steady_bubble(pw::make_plan<pw::two_buffered>({ranks, ranks}).view(), cost) == expected);
      pw::costs<double> rounded;
      rounded.transfer = static_cast<double>(latency);
      CHECK(pw::steady_bubble(pw::make_plan<pw::one_f_one_b>({ranks, 3}).view(), rounded) ==
            doctest::Approx(static_cast<double>(expected)));
    }
  CHECK_THROWS_WITH_AS(pw::steady_bubble(pw::make_plan<pw::flush>({2, 2}).view(), pw::costs<double>{}),
                       doctest::Contains("no steady state"), pw::error);
}

TEST_CASE("a slow stage sets the period") {
  pw::costs<pw::rational> cost;
  cost.stage_forward = {1, 2, 1};
  cost.stage_backward_input = cost.stage_backward_weight = {1, 2, 1};
  CHECK(pw::steady_bubble(pw::make_plan<pw::one_f_one_b>({3, 2}).view(), cost) ==
        pw::rational(0));  // rank 1 never waits
}
