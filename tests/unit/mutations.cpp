// SPDX-License-Identifier: Apache-2.0
// Single-fault mutants of plans and streams: the library rejects exactly those that the brute force finds broken. A
// seeded sample; the full number is in tests/long.
#include <support/mutation_run.hpp>
#include <support/twice.hpp>

namespace pw = pipewright;

TEST_CASE("mutants of plans that end") {
  auto const counts = support::judge_random_plans(20'260'801, 120, 2, 5, 7);
  MESSAGE(counts.table());
  CHECK_GE(counts.all().mutants, 20'000);
  CHECK_EQ(counts.disagreements, 0);
  for (int k = 0; k < static_cast<int>(support::mutation::count); ++k)
    CHECK_GE(counts.of(static_cast<support::mutation>(k)).broken, 100);
  for (auto const named : {pw::rule::none, pw::rule::complete, pw::rule::feasible, pw::rule::channels,
                           pw::rule::deadlock, pw::rule::memory, pw::rule::weights, pw::rule::placement})
    CHECK_GE(counts.rejected_by(named), 50);
}

TEST_CASE("mutants of streams") {
  auto const counts = support::judge_random_streams(20'260'802, 40, 1, 4, 4);
  MESSAGE(counts.table());
  CHECK_GE(counts.all().mutants, 1'000);
  CHECK_EQ(counts.disagreements, 0);
}

namespace {

/// In the compiler as in the program: each instruction of a plan left out in turn, and each said twice. How many of these
/// mutants verify accepts; all of them are broken.
template<class Policy> constexpr int accepted_without_or_with_twice_an_instruction(pw::shape s, pw::needs wants = {}) {
  pw::dynamic_plan plan;
  pw::dynamic_plan::make<Policy>(plan, pw::complete<Policy>(s), wants);
  auto const sound = plan.view();
  int accepted = 0;
  for (int rank = 0; rank < s.ranks; ++rank)
    for (int position = 0; position < sound.programs.length(rank); ++position)
      for (int times : {0, 2}) {
        pw::rows<pw::instruction> changed(s.ranks, sound.programs.total() + static_cast<std::size_t>(times) - 1);
        std::size_t next = 0;
        for (int r = 0; r < s.ranks; ++r) {
          for (int i = 0; i < sound.programs.length(r); ++i)
            for (int n = 0; n < (r == rank && i == position ? times : 1); ++n)
              changed.items[next++] = sound.programs[r][static_cast<std::size_t>(i)];
          changed.first[static_cast<std::size_t>(r) + 1] = next;
        }
        auto mutant = sound;
        mutant.programs = changed.view();
        accepted += pw::verify(mutant).ok();
      }
  return accepted + !pw::verify(sound).ok();
}

/// The same with each version read or written one higher: how many are accepted.
template<class Policy> constexpr int accepted_with_a_later_version(pw::shape s) {
  pw::dynamic_plan plan;
  pw::dynamic_plan::make<Policy>(plan, pw::complete<Policy>(s), {});
  auto const sound = plan.view();
  pw::rows<pw::instruction> changed(s.ranks, sound.programs.total());
  for (int r = 0; r <= s.ranks; ++r) changed.first[static_cast<std::size_t>(r)] = sound.programs.first[r];
  for (std::size_t i = 0; i < sound.programs.total(); ++i) changed.items[i] = sound.programs.items[i];
  auto mutant = sound;
  mutant.programs = changed.view();
  int accepted = !pw::verify(mutant).ok();
  for (std::size_t i = 0; i < sound.programs.total(); ++i) {
    if (!pw::is_compute(changed.items[i].what.what) && changed.items[i].what.what != pw::kind::update) continue;
    ++changed.items[i].version;
    accepted += pw::verify(mutant).ok();
    --changed.items[i].version;
  }
  return accepted;
}

}  // namespace

TEST_CASE("the compiler rejects mutants too") {
  PIPEWRIGHT_TWICE(accepted_without_or_with_twice_an_instruction<pw::flush>({2, 2}) == 0);
  PIPEWRIGHT_TWICE(accepted_without_or_with_twice_an_instruction<pw::one_f_one_b>({2, 2}) == 0);
  PIPEWRIGHT_TWICE(accepted_with_a_later_version<pw::one_f_one_b>({3, 4}) == 0);
  PIPEWRIGHT_TWICE(accepted_with_a_later_version<pw::two_buffered>({2, 1, 0, 0, 3}) == 0);
  CHECK_EQ(accepted_without_or_with_twice_an_instruction<pw::interleaved<2>>({3, 4},
                                                                             {.recompute = pw::recompute_mode::always}),
           0);
  CHECK_EQ(accepted_without_or_with_twice_an_instruction<pw::gpipe>(
               {3, 2}, {.step_facts = true, .tied_first = 0, .tied_second = 2}),
           0);
}
