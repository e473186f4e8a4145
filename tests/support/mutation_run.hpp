// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <pipewright/plan/verify.hpp>
#include <support/brute_force.hpp>
#include <support/mutate.hpp>
#include <support/view_of.hpp>

/// Mutants of sound plans before two judges: the brute force and the library's verify.
namespace support {

struct tally {
  int mutants = 0, broken = 0, rejected = 0;
};

struct tallies {
  std::array<tally, static_cast<std::size_t>(mutation::count)> by_kind{};
  std::array<int, 16> by_rule{};
  tally all() const {
    tally sum;
    for (auto const& t : by_kind) sum = {sum.mutants + t.mutants, sum.broken + t.broken, sum.rejected + t.rejected};
    return sum;
  }
};

/// Both judges on one mutant; a disagreement is a failed check that shows the plan.
inline void judge_mutant(mutation kind_of_fault, mutant const& m, std::string const& plan, tallies& counts) {
  auto const why = brute_force(m.programs);
  viewable const shown{m.programs};
  auto const verdict = pipewright::verify(shown.view());
  auto& count = counts.by_kind[static_cast<std::size_t>(kind_of_fault)];
  ++count.mutants;
  count.broken += !why.empty();
  count.rejected += !verdict.ok();
  ++counts.by_rule[static_cast<std::size_t>(verdict.broken)];
  if (why.empty() == verdict.ok()) return;
  std::ostringstream text;
  text << plan << ", " << name_of(kind_of_fault) << ": " << m.change << "\n  brute force: " << (why.empty() ? "sound" : why)
       << "\n  verify: " << sentence(verdict.broken) << " (rank " << verdict.rank << ", position " << verdict.position << ")";
  for (auto const& row : m.programs.programs) {
    text << "\n   ";
    for (auto const i : row) text << ' ' << write_instruction(i);
  }
  FAIL_CHECK(text.str());
}

/// `each` mutants of every kind of a sound plan.
inline void judge_mutants(program_set const& sound, std::string const& plan, mutator& mutate, int each, tallies& counts) {
  CHECK_EQ(brute_force(sound), "");
  CHECK(pipewright::verify(viewable{sound}.view()).ok());
  for (int k = 0; k < static_cast<int>(mutation::count); ++k)
    for (int made = 0, tried = 0; made < each && tried < 40 * each; ++tried)
      if (auto const m = mutate(static_cast<mutation>(k), sound)) {
        judge_mutant(static_cast<mutation>(k), *m, plan, counts);
        ++made;
      }
}

inline std::string table_of(tallies const& counts) {
  std::ostringstream text;
  text << "mutants, broken (brute force), rejected (verify)";
  auto line = [&](char const* name, tally const& t) { text << "\n  " << name << ": " << t.mutants << ", " << t.broken << ", " << t.rejected; };
  for (int k = 0; k < static_cast<int>(mutation::count); ++k) line(name_of(static_cast<mutation>(k)), counts.by_kind[static_cast<std::size_t>(k)]);
  line("all", counts.all());
  for (std::size_t r = 0; r < counts.by_rule.size(); ++r)
    if (counts.by_rule[r] > 0) text << "\n  rule " << r << ", " << sentence(static_cast<pipewright::rule>(r)) << ": " << counts.by_rule[r];
  return text.str();
}

}  // namespace support
