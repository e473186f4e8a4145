// SPDX-License-Identifier: Apache-2.0
// Bubbles, latency costs and peaks of the orders themselves, by a timeline of the tests' own, against closed formulas.
#include <cmath>

#include <support/exact_timeline.hpp>
#include <support/formulas.hpp>
#include <support/twice.hpp>

#include <pipewright/schedule/named.hpp>

namespace pw = pipewright;
namespace formulas = support::formulas;
using support::fraction;

namespace {

template<class Policy, class T> support::exact_timeline<T> timeline_of(pw::shape s,
                                                                       support::chunk_times<T> const& times) {
  auto line = support::run_timeline<T>(support::orders_of<Policy>(s), support::loop_placement(s.ranks, s.chunks),
                                       s.total_micro_batches(), times);
  REQUIRE(line);
  return *line;
}

/// Makespan at unit times (t_f = t_i = t_w = 1 a rank and micro-batch).
template<class Policy> fraction unit_makespan(int ranks, int micro_batches, int chunks = 0) {
  auto const s = pw::complete<Policy>({ranks, micro_batches, chunks});
  fraction const one(1, s.chunks);
  return timeline_of<Policy, fraction>(s, {one, one, one, 0}).makespan;
}

template<class Policy> int peak_of_order(pw::shape s, int rank) {
  int held = 0, peak = 0;
  Policy::order(s, rank, [&](pw::action a) { peak = std::max(peak, held += a.what == pw::kind::forward ? 1 : -1); });
  return peak;
}

}  // namespace

TEST_CASE("exact makespans of the reference table") {
  CHECK(unit_makespan<pw::sequential>(2, 4) == fraction{24});
  CHECK(unit_makespan<pw::sequential>(4, 4) == fraction{48});
  CHECK(unit_makespan<pw::sequential>(4, 8) == fraction{96});
  CHECK(unit_makespan<pw::gpipe>(2, 4) == fraction{15});
  CHECK(unit_makespan<pw::gpipe>(4, 4) == fraction{21});
  CHECK(unit_makespan<pw::gpipe>(4, 8) == fraction{33});
  CHECK(unit_makespan<pw::flush>(2, 4) == fraction{15});
  CHECK(unit_makespan<pw::flush>(4, 4) == fraction{21});
  CHECK(unit_makespan<pw::flush>(4, 8) == fraction{33});
  CHECK(unit_makespan<pw::interleaved<2>>(2, 4) == fraction(27, 2));
  CHECK(unit_makespan<pw::interleaved<2>>(4, 4) == fraction(33, 2));
  CHECK(unit_makespan<pw::interleaved<2>>(4, 8) == fraction(57, 2));
  CHECK(unit_makespan<pw::interleaved<4>>(2, 4) == fraction(51, 4));
  CHECK(unit_makespan<pw::interleaved<4>>(4, 4) == fraction(57, 4));
  CHECK(unit_makespan<pw::interleaved<4>>(4, 8) == fraction(105, 4));
}

TEST_CASE_TEMPLATE("bubbles and peaks of every legal shape are the formulas", Policy, pw::sequential, pw::gpipe,
                   pw::flush, pw::one_f_one_b, pw::two_buffered, pw::interleaved<>, pw::forward_only) {
  int shapes = 0;
  for (int p = 1; p <= 8; ++p)
    for (int m = 1; m <= 32; ++m)
      for (int v = 1; v <= 4; ++v)
        for (int g = 0; g <= (Policy::name == "interleaved" ? m : 0); ++g) {
          auto const s = pw::complete<Policy>({p, m, v, g});
          if (!pw::check_shape<Policy>(s).ok()) continue;
          ++shapes;
          CAPTURE(Policy::name);
          CAPTURE(support::describe(s));
          // Whole times per chunk, so a formula's 1/V needs no fraction.
          support::chunk_times<long long> const times{3, 4, 1, 0};
          auto const line = timeline_of<Policy, long long>(s, times);
          bool const trains = Policy::backward != pw::backward_form::none;
          long long const work = trains ? 8 : 3;
          CHECK_EQ(line.makespan - work * m * s.chunks, work * formulas::bubble_times_chunks(Policy::name, s));
          if (trains)
            for (int r = 0; r < p; ++r)
              CHECK_EQ(peak_of_order<Policy>(s, r), formulas::peak_in_flight(Policy::name, s, r));
        }
  MESSAGE(Policy::name << ": " << shapes << " shapes");
  CHECK(shapes >= 200);
}

TEST_CASE("interleaved P4 M8: peaks in chunks") {
  constexpr int two[] = {11, 9, 7, 5}, four[] = {19, 17, 15, 13};
  for (int r = 0; r < 4; ++r) {
    CHECK_EQ(peak_of_order<pw::interleaved<2>>(pw::complete<pw::interleaved<2>>({4, 8}), r), two[r]);
    CHECK_EQ(peak_of_order<pw::interleaved<4>>(pw::complete<pw::interleaved<4>>({4, 8}), r), four[r]);
  }
}

TEST_CASE("what an edge's latency costs at unit times") {
  fraction const c(1, 1000);
  auto added = [&]<class Policy>(Policy, pw::shape s) {
    s = pw::complete<Policy>(s);
    fraction const one(1, s.chunks);
    return (timeline_of<Policy, fraction>(s, {one, one, one, c}).makespan -
            timeline_of<Policy, fraction>(s, {one, one, one, 0}).makespan) /
           c;
  };
  for (int p = 2; p <= 8; ++p)
    for (int m = p; m <= 32; m += p) {
      CAPTURE(p);
      CAPTURE(m);
      CHECK(added(pw::flush{}, {p, m}) == fraction(2 * (p - 1) * m / p + 2 * (p - 2)));
      CHECK(added(pw::gpipe{}, {p, m}) == fraction(2 * (p - 1)));
    }
  CHECK(added(pw::flush{}, {8, 24}) == fraction{54});
  CHECK(added(pw::gpipe{}, {8, 24}) == fraction{14});
  CHECK(added(pw::interleaved<2>{}, {4, 8}) == fraction{14});
}

TEST_CASE("a stream has no bubble in its steady state, and pays 2(P-1)c/P a micro-batch for latency") {
  for (int p = 1; p <= 8; ++p) {
    fraction const c(1, 1000);
    auto end_of = [&](int micro_batches, fraction const& latency) {
      return timeline_of<pw::one_f_one_b, fraction>({p, micro_batches, 1}, {1, 1, 1, latency}).makespan;
    };
    CHECK(end_of(4 * p + 1, 0) - end_of(4 * p, 0) == fraction{3});
    CHECK((end_of(5 * p, c) - end_of(4 * p, c)) == fraction{3 * p} + 2 * (p - 1) * c);
  }
}

TEST_CASE("Zero Bubble's measurements, 1F1B column, to four decimals") {
  auto rate = [](int m, double f, double i, double w, double latency) {
    auto const line = timeline_of<pw::flush, double>({8, m, 1}, {f, i, w, latency});
    return std::round(1e4 * (line.longest_rank() - m * (f + i + w)) / line.longest_rank()) / 1e4;
  };
  CHECK_EQ(rate(24, 18.522, 18.086, 9.337, 0.601), 0.2431);
  CHECK_EQ(rate(32, 18.513, 18.086, 9.331, 0.626), 0.1985);
}

TEST_CASE("weight versions, counted micro-batch by micro-batch, are the papers'") {
  constexpr int p8_m8[] = {2, 3, 4, 5, 4, 3, 2, 1};
  for (int r = 0; r < 8; ++r) CHECK_EQ(formulas::peak_versions_of_a_stream(8, 7 - r), p8_m8[r]);
  for (int p = 1; p <= 8; ++p)
    for (int r = 0; r < p; ++r) {
      CHECK_EQ(formulas::peak_versions_of_a_stream(100, p - 1 - r), p - r);  // stashing
      CHECK_EQ(formulas::peak_versions_of_a_stream(std::max(2, 2 * (p - r - 1)), p - 1 - r),
               p - r);                                               // from this length on
      CHECK_EQ(formulas::peak_versions_of_a_stream(100, p - 1), p);  // vertical sync, on every rank
    }
  for (int batches = 3; batches <= 6; ++batches)
    CHECK_EQ(formulas::peak_versions_double_buffered({.ranks = 4, .micro_batches = 4, .batches = batches}), 2);
}
