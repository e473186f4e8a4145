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

/// The first statement about a plan and the orders it was made from that does not hold, in words; empty if all do.
inline std::string false_statement(pipewright::plan_view const& view, orders const& orders_of_policy) {
  namespace pw = pipewright;
  auto const s = view.facts;
  auto const programs = copy_of(view);
  brute_force_run run{programs};
  if (auto const why = run.judge(); !why.empty()) return "brute force: " + why;
  if (!pw::verify(view).ok()) return "verify rejects it";

  bool const trains = programs.trains();
  int most = 0;
  for (int r = 0; r < s.ranks && trains; ++r) {
    auto const in = " on rank " + std::to_string(r);
    int const peak = formulas::peak_in_flight(view.schedule, s, r);
    most = std::max(most, peak);
    if (pw::peak_in_flight(view, r) != peak)
      return "in flight " + std::to_string(pw::peak_in_flight(view, r)) + " instead of " + std::to_string(peak) + in;
    if (run.peak_in_flight()[static_cast<std::size_t>(r)] != peak)
      return "in flight of the brute force is not the formula's" + in;
    int const n = s.total_micro_batches();
    int const versions =
        view.weights == pw::weight_rule::synchronous     ? 1
        : view.weights == pw::weight_rule::stashing      ? formulas::peak_versions_of_a_stream(n, s.ranks - 1 - r)
        : view.weights == pw::weight_rule::vertical_sync ? formulas::peak_versions_of_a_stream(n, s.ranks - 1)
                                                         : formulas::peak_versions_double_buffered(s);
    if (pw::peak_weight_versions(view, r) != versions)
      return "weight versions " + std::to_string(pw::peak_weight_versions(view, r)) + " instead of " +
             std::to_string(versions) + in;
  }
  if (trains && (!pw::verify(view, most).ok() || pw::verify(view, most - 1).ok()))
    return "a stated limit of " + std::to_string(most) + " in flight is not kept to the letter";

  if (view.wants.recompute != pw::recompute_mode::never) return {};
  fraction const f(3, 2), i(2), w(1, 2), latency(1, 7), v(s.chunks);
  pw::costs<pw::rational> times;
  times.forward = to_rational(f);
  times.backward_input = to_rational(i);
  times.backward_weight = to_rational(w);
  auto const line = pw::simulate(view, times);
  auto const work = (trains ? f + i + w : f);
  auto const bubble = work * fraction(formulas::bubble_times_chunks(view.schedule, s), s.chunks);
  auto const ideal = work * fraction(s.total_micro_batches());
  if (line.ideal != to_rational(ideal)) return "the ideal time is not M (t_f + t_b)";
  if (line.makespan != to_rational(ideal + bubble)) return "the bubble is not the formula's";
  if (line.bubble_of_ideal() != to_rational(bubble / ideal) ||
      line.bubble_of_makespan() != to_rational(bubble / (ideal + bubble)))
    return "a bubble's ratio is not the formula's";
  times.transfer = to_rational(latency);
  auto const late = pw::simulate(view, times);
  auto const expected = run_timeline<fraction>(orders_of_policy, programs.rank_of_stage, s.total_micro_batches(),
                                               {f / v, i / v, w / v, latency});
  if (!expected) return "our own timeline waits for ever";
  if (late.makespan != to_rational(expected->makespan)) return "the makespan with latency is not our own timeline's";
  if (late.longest_rank != to_rational(expected->longest_rank())) return "the longest rank is not our own timeline's";
  if (late.bubble_of_longest_rank() != to_rational((expected->longest_rank() - ideal) / expected->longest_rank()))
    return "the longest rank's bubble is not ours";
  return {};
}

inline std::string false_statement(planned_policy const& policy, pipewright::shape given) {
  auto const s = policy.complete(given);
  return false_statement(policy.unrolled_plan(s, {}).view(), policy.orders(s));
}

/// An illegal shape: refused at start-up with its sentence, and what is offered instead is legal.
inline std::string false_refusal(planned_policy const& policy, pipewright::shape given) {
  auto const fault = policy.check(policy.complete(given));
  if (fault.ok()) return "it is taken for legal";
  try {
    (void)policy.unrolled_plan(given, {});
    return "a plan is made";
  } catch (pipewright::error const& e) {
    if (std::string{e.what()}.find(sentence(fault.broken)) == std::string::npos)
      return std::string{"the sentence is missing: "} + e.what();
  }
  if (!policy.check(policy.complete(fault.nearest)).ok()) return "the nearest shape is illegal";
  return {};
}

struct seen_shapes {
  int legal = 0, illegal = 0;
};

/// All P in 1..8, M in 1..32, V in 1..4: the legal ones proven, the illegal ones refused. Of interleaved the default
/// group, or every group from 0 to 33. Streams drained after 1, 2 and 3 batches.
inline seen_shapes prove_all_shapes(planned_policy const& policy, bool every_group = false) {
  seen_shapes seen;
  for (int p = 1; p <= 8; ++p)
    for (int m = 1; m <= 32; ++m)
      for (int v = 1; v <= 4; ++v)
        for (int g = 0; g <= (every_group && policy.name == "interleaved" ? 33 : 0); ++g)
          for (int batches = 1; batches <= (policy.streams() ? 3 : 1); ++batches) {
            pipewright::shape const given{p, m, v, g, batches};
            CAPTURE(policy.name);
            CAPTURE(describe(given));
            if (is_legal(policy.name, p, m, v, g)) {
              ++seen.legal;
              CHECK_EQ(false_statement(policy, given), "");
            } else {
              ++seen.illegal;
              CHECK_EQ(false_refusal(policy, given), "");
            }
          }
  return seen;
}

}  // namespace support
