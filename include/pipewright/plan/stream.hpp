// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/plan/verify.hpp>

namespace pipewright::inline v0 {

namespace detail {

/// Micro-batches after which a stream's programs repeat: those between two updates, or a whole batch where the last
/// micro-batch of a batch is treated differently.
constexpr int period_of(plan_view const& p) {
  return p.wants.recompute == recompute_mode::except_last ? p.facts.micro_batches : p.update_interval();
}

/// The micro-batch after whose backward the first period begins: every version rule is past its start there.
constexpr int first_period(plan_view const& p) {
  int const period = period_of(p),
            needed = p.facts.ranks - 1 > p.facts.micro_batches ? p.facts.ranks - 1 : p.facts.micro_batches;
  return (needed + period - 1) / period * period;
}

/// Batches that a finite program needs to show the period twice, clear of where it drains.
constexpr int batches_to_show_the_period(plan_view const& p) {
  int const micro_batches = first_period(p) + 3 * period_of(p) + 2 * p.facts.ranks;
  return (micro_batches + p.facts.micro_batches - 1) / p.facts.micro_batches;
}

/// Right after a micro-batch's backward and its send: where all ranks can stand at once, nobody owing anything to a rank
/// that waits.
constexpr int position_after_backward(plan_view const& p, int rank, int micro_batch) {
  instruction const* const row = p.programs.begin_of(rank);
  for (int at = 0, n = p.programs.length(rank); at < n; ++at)
    if (gives_input_gradient(row[at].what.what) && row[at].what.micro_batch == micro_batch)
      return at + 1 < n && row[at + 1].what.what == kind::send_backward ? at + 2 : at + 1;
  return -1;
}

/// A stream's first `periods` periods, with its prologue.
constexpr rows<instruction> beginning(plan_view const& stream, int periods) {
  std::size_t total = 0;
  for (int r = 0; r < stream.facts.ranks; ++r)
    total += static_cast<std::size_t>(stream.period[r].prologue + periods * stream.period[r].length);
  rows<instruction> result(stream.facts.ranks, total);
  std::size_t next = 0;
  for (int r = 0; r < stream.facts.ranks; ++r) {
    for (int at = 0, n = stream.period[r].prologue + periods * stream.period[r].length; at < n; ++at)
      result.items[next++] = stream.at(r, at);
    result.first[static_cast<std::size_t>(r) + 1] = next;
  }
  return result;
}

}  // namespace detail

/// Where the finite programs `p` (of batches_to_show_the_period batches, at least) begin to repeat, by rank. A length of 0
/// says that a rank's program does not.
constexpr block<period_marks> find_periods(plan_view const& p) {
  int const period = detail::period_of(p), start = detail::first_period(p), updates = period / p.update_interval();
  block<period_marks> result(static_cast<std::size_t>(p.facts.ranks));
  for (int r = 0; r < p.facts.ranks; ++r) {
    int const first = detail::position_after_backward(p, r, start),
              second = detail::position_after_backward(p, r, start + period),
              third = detail::position_after_backward(p, r, start + 2 * period);
    period_marks& marks = result[static_cast<std::size_t>(r)];
    marks = {first, second - first};
    instruction const* const row = p.programs.begin_of(r);
    if (third - second != second - first) marks.length = 0;
    for (int at = first; at < second && marks.length > 0; ++at) {
      instruction expected = row[at];
      expected.what.micro_batch += period;
      if (is_compute(expected.what.what) || expected.what.what == kind::update) expected.version += updates;
      if (row[at + marks.length] != expected) marks.length = 0;
    }
  }
  return result;
}

/// Proves a stream for every number of repetitions and every point at which it may be drained, by two runs:
/// all ranks finish their prologue and first period without anything that comes later, and after one more period all that
/// the future depends on is the same again, one period later; hence so it goes on for ever. Draining leaves out the
/// micro-batches that were not admitted: every rendezvous has one micro-batch at both its ends, so any run of the endless
/// programs, restricted to the others, is a run of the drained ones.
constexpr verdict verify_stream(plan_view stream) {
  for (int r = 0; r < stream.facts.ranks; ++r)
    if (stream.period[r].length <= 0) return {rule::feasible, r, 0, stream.programs.begin_of(r)->what};
  plan_view ending = stream;
  ending.period_micro_batches = 0;
  ending.facts.batches = detail::batches_to_show_the_period(stream);
  rows<instruction> const once = detail::beginning(stream, 1), twice = detail::beginning(stream, 2);
  ending.programs = once.view();
  detail::prover earlier(ending);
  if (verdict const v = earlier.run_to_the_last(); !v.ok()) return v;
  plan_view ending_later = ending;
  ending_later.programs = twice.view();
  detail::prover later(ending_later);
  if (verdict const v = later.run_to_the_last(); !v.ok()) return v;
  if (!later.repeats(earlier, stream.period_micro_batches, stream.period_updates))
    return {rule::memory, 0, stream.period[0].prologue, stream.programs.begin_of(0)[stream.period[0].prologue].what};
  return sound;
}

}  // namespace pipewright::inline v0
