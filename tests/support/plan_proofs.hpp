// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <doctest/doctest.h>
#include <support/brute_force.hpp>
#include <support/exact_timeline.hpp>
#include <support/formulas.hpp>
#include <support/plans.hpp>

#include <pipewright/plan/plan.hpp>

/// One plan against everything that is known about it: the brute force, the closed formulas, a timeline of our own.
namespace support {

inline pipewright::rational to_rational(fraction const& f) { return {f.numerator(), f.denominator()}; }

/// The first statement about a legal shape's plan that does not hold, in words; empty if all do.
template<class P> std::string false_statement(pipewright::shape given, pipewright::needs wants = {}) {
  namespace pw = pipewright;
  auto const s = pw::complete<P>(given);
  auto const plan = pw::make_unrolled_plan<P>(s, wants);  // verified inside
  auto const view = plan.view();
  auto const programs = copy_of(view);
  brute_force_run run{programs};
  if (auto const why = run.judge(); !why.empty()) return "brute force: " + why;
  if (!pw::verify(view).ok()) return "verify rejects it";

  bool const trains = P::backward != pw::backward_form::none;
  int most = 0;
  for (int r = 0; r < s.ranks && trains; ++r) {
    auto const in = " on rank " + std::to_string(r);
    int const peak = formulas::peak_in_flight(P::name, s, r);
    most = std::max(most, peak);
    if (pw::peak_in_flight(view, r) != peak)
      return "in flight " + std::to_string(pw::peak_in_flight(view, r)) + " instead of " + std::to_string(peak) + in;
    if (run.peak_in_flight()[static_cast<std::size_t>(r)] != peak)
      return "in flight of the brute force is not the formula's" + in;
    int const n = s.total_micro_batches();
    int const versions =
        P::weights == pw::weight_rule::synchronous     ? 1
        : P::weights == pw::weight_rule::stashing      ? formulas::peak_versions_of_a_stream(n, s.ranks - 1 - r)
        : P::weights == pw::weight_rule::vertical_sync ? formulas::peak_versions_of_a_stream(n, s.ranks - 1)
                                                       : formulas::peak_versions_double_buffered(s);
    if (pw::peak_weight_versions(view, r) != versions)
      return "weight versions " + std::to_string(pw::peak_weight_versions(view, r)) + " instead of " +
             std::to_string(versions) + in;
  }
  if (trains && (!pw::verify(view, most).ok() || pw::verify(view, most - 1).ok()))
    return "a stated limit of " + std::to_string(most) + " in flight is not kept to the letter";

  if (wants.recompute != pw::recompute_mode::never) return {};
  fraction const f(3, 2), i(2), w(1, 2), latency(1, 7), v(s.chunks);
  pw::costs<pw::rational> times;
  times.forward = to_rational(f);
  times.backward_input = to_rational(i);
  times.backward_weight = to_rational(w);
  auto const line = pw::simulate(view, times);
  auto const work = (trains ? f + i + w : f);
  auto const bubble = work * fraction(formulas::bubble_times_chunks(P::name, s), s.chunks);
  auto const ideal = work * fraction(s.total_micro_batches());
  if (line.ideal != to_rational(ideal)) return "the ideal time is not M (t_f + t_b)";
  if (line.makespan != to_rational(ideal + bubble)) return "the bubble is not the formula's";
  if (line.bubble_of_ideal() != to_rational(bubble / ideal) ||
      line.bubble_of_makespan() != to_rational(bubble / (ideal + bubble)))
    return "a bubble's ratio is not the formula's";
  times.transfer = to_rational(latency);
  auto const late = pw::simulate(view, times);
  auto const expected = run_timeline<fraction>(support::orders_of<P>(s), programs.rank_of_stage,
                                               s.total_micro_batches(), {f / v, i / v, w / v, latency});
  if (!expected) return "our own timeline waits for ever";
  if (late.makespan != to_rational(expected->makespan)) return "the makespan with latency is not our own timeline's";
  if (late.longest_rank != to_rational(expected->longest_rank())) return "the longest rank is not our own timeline's";
  if (late.bubble_of_longest_rank() != to_rational((expected->longest_rank() - ideal) / expected->longest_rank()))
    return "the longest rank's bubble is not ours";
  return {};
}

/// An illegal shape: refused at start-up with its sentence, and what is offered instead makes a plan.
template<class P> std::string false_refusal(pipewright::shape given) {
  namespace pw = pipewright;
  auto const fault = pw::check_shape<P>(pw::complete<P>(given));
  if (fault.ok()) return "it is taken for legal";
  try {
    (void)pw::make_plan<P>(given);
    return "a plan is made";
  } catch (pw::error const& e) {
    if (std::string{e.what()}.find(sentence(fault.broken)) == std::string::npos)
      return std::string{"the sentence is missing: "} + e.what();
  }
  if (!pw::check_shape<P>(pw::complete<P>(fault.nearest)).ok()) return "the nearest shape is illegal";
  return {};
}

struct seen_shapes {
  int legal = 0, illegal = 0;
};

/// All P in 1..8, M in 1..32, V in 1..4 (every legal group where `groups`, else the default one), of which every
/// `stride`-th legal shape is run; the illegal ones all. Streams as batches of 1, 2 and 3.
template<class P> seen_shapes prove_all_shapes(bool groups, int stride = 1, int offset = 0) {
  namespace pw = pipewright;
  seen_shapes seen;
  int counter = offset;
  for (int p = 1; p <= 8; ++p)
    for (int m = 1; m <= 32; ++m)
      for (int v = 1; v <= 4; ++v)
        for (int g = 0; g <= (groups && P::name == "interleaved" ? 33 : 0); ++g)
          for (int batches = 1; batches <= (pw::is_stream(P::weights) ? 3 : 1); ++batches) {
            pw::shape const given{p, m, v, g, batches};
            CAPTURE(P::name);
            CAPTURE(describe(given));
            if (!is_legal(P::name, p, m, v, g)) {
              ++seen.illegal;
              CHECK_EQ(false_refusal<P>(given), "");
            } else if (counter++ % stride == 0) {
              ++seen.legal;
              CHECK_EQ(false_statement<P>(given), "");
            }
          }
  return seen;
}

}  // namespace support
