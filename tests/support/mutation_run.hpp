// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/brute_force.hpp>
#include <support/mutate.hpp>
#include <support/plans.hpp>
#include <support/streams.hpp>
#include <support/view_of.hpp>

#include <pipewright/plan/plan.hpp>

/// Mutants of sound plans before two judges: the brute force and the library. They must agree on every one.
namespace support {

struct tally {
  int mutants = 0, broken = 0, rejected = 0;
};

/// Counts by kind of fault and by the rule that the library names.
class tallies {
 public:
  void add(mutation kind_of_fault, bool broken, pipewright::rule named) {
    tally& t = by_kind_[static_cast<std::size_t>(kind_of_fault)];
    t = {t.mutants + 1, t.broken + broken, t.rejected + (named != pipewright::rule::none)};
    ++by_rule_[static_cast<std::size_t>(named)];
  }
  tally all() const {
    tally sum;
    for (auto const& t : by_kind_) sum = {sum.mutants + t.mutants, sum.broken + t.broken, sum.rejected + t.rejected};
    return sum;
  }
  int rejected_by(pipewright::rule named) const { return by_rule_[static_cast<std::size_t>(named)]; }
  int disagreements = 0;
  tally of(mutation kind_of_fault) const { return by_kind_[static_cast<std::size_t>(kind_of_fault)]; }

  std::string table() const {
    std::ostringstream text;
    auto line = [&](char const* name, tally const& t) {
      text << "\n  " << name << ": " << t.mutants << " mutants, " << t.broken << " broken, " << t.rejected
           << " rejected";
    };
    for (int k = 0; k < static_cast<int>(mutation::count); ++k)
      if (auto const& t = of(static_cast<mutation>(k)); t.mutants > 0) line(name_of(static_cast<mutation>(k)), t);
    line("all", all());
    for (std::size_t r = 0; r < by_rule_.size(); ++r)
      if (by_rule_[r] > 0) text << "\n  " << by_rule_[r] << ": " << sentence(static_cast<pipewright::rule>(r));
    return text.str();
  }

 private:
  std::array<tally, static_cast<std::size_t>(mutation::count)> by_kind_{};
  std::array<int, 16> by_rule_{};
};

/// Both judges' words on one mutant; where they disagree, a failed check that shows the programs (of the first ten).
inline void agree(tallies& counts, mutation kind_of_fault, std::string const& plan, mutant const& m,
                  std::string const& why, pipewright::verdict const& found) {
  counts.add(kind_of_fault, !why.empty(), found.broken);
  if (why.empty() == found.ok() || ++counts.disagreements > 10) return;  // the first ten say enough
  std::ostringstream text;
  text << plan << ", " << name_of(kind_of_fault) << ": " << m.change
       << "\n  brute force: " << (why.empty() ? "sound" : why) << "\n  library: " << sentence(found.broken) << " (rank "
       << found.rank << ", position " << found.position << ")";
  for (auto const& row : m.programs.programs) {
    text << "\n   ";
    for (auto const i : row) text << ' ' << write_instruction(i);
  }
  FAIL_CHECK(text.str());
}

/// `each` mutants of every kind of a plan that ends.
inline void judge_mutants(program_set const& sound, std::string const& plan, mutator& mutate, int each,
                          tallies& counts) {
  CHECK_EQ(brute_force(sound), "");
  CHECK(pipewright::verify(viewable{sound}.view()).ok());
  for (int k = 0; k < static_cast<int>(mutation::count); ++k)
    for (int made = 0, tried = 0; made < each && tried < 40 * each; ++tried) {
      auto const m = mutate(static_cast<mutation>(k), sound);
      if (!m) continue;
      ++made;
      agree(counts, static_cast<mutation>(k), plan, *m, brute_force(m->programs),
            pipewright::verify(viewable{m->programs}.view()));
    }
}

/// A stream whose repeated part has been changed in one place; its marks follow an action that came or went.
inline stream_set with_programs(stream_set stream, program_set const& changed) {
  for (std::size_t r = 0; r < stream.period.size(); ++r) {
    auto const& before = stream.once.programs[r];
    auto const& after = changed.programs[r];
    int const longer = static_cast<int>(after.size()) - static_cast<int>(before.size());
    int same = 0;
    while (same < static_cast<int>(std::min(before.size(), after.size())) &&
           before[static_cast<std::size_t>(same)] == after[static_cast<std::size_t>(same)])
      ++same;
    (same < stream.period[r].prologue ? stream.period[r].prologue : stream.period[r].length) += longer;
  }
  stream.once = changed;
  return stream;
}

/// Runs a stream drained after one batch, two, three and so on, until every rank has repeated itself several times.
inline std::string brute_force(stream_set const& stream) {
  for (int batches = 1; batches <= 2 * stream.once.ranks() + 4; ++batches)
    if (auto const why = brute_force(drained(stream, batches)); !why.empty())
      return "drained after " + std::to_string(batches) + " batches: " + why;
  return {};
}

/// `each` mutants of every kind of a stream: of its prologue or of what repeats.
inline void judge_mutants(stream_set const& sound, std::string const& plan, mutator& mutate, int each,
                          tallies& counts) {
  CHECK_EQ(brute_force(sound), "");
  CHECK(pipewright::verify_stream(viewable_stream{sound}.view()).ok());
  for (int k = 0; k < static_cast<int>(mutation::count); ++k)
    for (int made = 0, tried = 0; made < each && tried < 40 * each; ++tried) {
      auto const m = mutate(static_cast<mutation>(k), sound.once);
      if (!m) continue;
      ++made;
      auto const changed = with_programs(sound, m->programs);
      agree(counts, static_cast<mutation>(k), plan, *m, brute_force(changed),
            pipewright::verify_stream(viewable_stream{changed}.view()));
    }
}

/// A random legal shape and random needs of a policy; nothing where the throw is illegal.
inline std::optional<std::pair<pipewright::shape, pipewright::needs>> random_plan(any_policy const& policy,
                                                                                  mutator& random, int most_ranks,
                                                                                  int most_micro_batches) {
  pipewright::shape s{1 + random.below(most_ranks), 1 + random.below(most_micro_batches)};
  if (policy.streams()) s.batches = 1 + random.below(3);
  if (policy.name == "interleaved" || policy.name == "forward-only") s.chunks = random.below(4);
  if (policy.name == "interleaved" && random.below(2) == 0) s.group = random.below(most_micro_batches + 1);
  s = policy.complete(s);
  if (!policy.check(s).ok()) return {};
  pipewright::needs wants;
  if (!policy.trains()) return std::pair{s, wants};
  wants.recompute = static_cast<pipewright::recompute_mode>(random.below(3));
  if (policy.weights != pipewright::weight_rule::stashing) {
    wants.step_facts = random.below(3) == 0;
    if (random.below(3) == 0) {
      wants.tied_first = random.below(s.stages());
      wants.tied_second = wants.tied_first + random.below(s.stages() - wants.tied_first);
    }
  }
  return std::pair{s, wants};
}

/// Mutants of `plans` random plans of every schedule, the library's and others.
inline tallies judge_random_plans(std::uint64_t seed, int plans, int each, int most_ranks, int most_micro_batches) {
  tallies counts;
  mutator random{seed};
  for (auto const policies : {library_policies(), other_policies()})
    for (auto const& policy : policies)
      for (int i = 0; i < plans; ++i)
        if (auto const plan = random_plan(policy, random, most_ranks, most_micro_batches)) {
          auto const& [s, wants] = *plan;
          judge_mutants(policy.programs(s, wants), std::string{policy.name} + " " + describe(s) + " " + describe(wants),
                        random, each, counts);
        }
  return counts;
}

/// The same for streams.
inline tallies judge_random_streams(std::uint64_t seed, int plans, int each, int most_ranks, int most_micro_batches) {
  tallies counts;
  mutator random{seed};
  for (auto const& policy : library_policies())
    for (int i = 0; i < (policy.streams() ? plans : 0); ++i)
      if (auto plan = random_plan(policy, random, most_ranks, most_micro_batches)) {
        auto& [s, wants] = *plan;
        s.batches = 1;
        judge_mutants(stream_of(policy.plan(s, wants).view()),
                      "stream " + std::string{policy.name} + " " + describe(s) + " " + describe(wants), random, each,
                      counts);
      }
  return counts;
}

}  // namespace support
