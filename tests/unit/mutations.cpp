// SPDX-License-Identifier: Apache-2.0
// Single-fault mutants of plans, streams and tables: the library rejects exactly those that the brute force finds broken. A
// seeded sample; the full number is in tests/long.
#include <support/mutation_run.hpp>
#include <support/safe_transfers.hpp>
#include <support/table_runs.hpp>
#include <support/twice.hpp>

namespace pw = pipewright;
using support::mutation;
using support::orders;

TEST_CASE("mutants of plans that end") {
  auto const counts = support::judge_random_plans(20'260'801, 60, 2, 5, 7);
  MESSAGE(counts.table());
  CHECK_GE(counts.all().mutants, 15'000);
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

// Tables as a user would write them, with blocking transfers or with compute actions only: check_table must reject exactly
// those mutants that the brute force finds broken.
namespace {

/// The faults that a table can have: it says nothing of slots, versions and copies.
constexpr mutation faults[] = {mutation::swap_neighbours,
                               mutation::swap_any,
                               mutation::drop,
                               mutation::duplicate,
                               mutation::move,
                               mutation::move_to_rank,
                               mutation::retarget_stage,
                               mutation::retarget_micro_batch,
                               mutation::retarget_kind,
                               mutation::reorder_channel};

support::program_set undressed(orders const& table, pw::shape s, std::vector<int> const& rank_of,
                               pw::weight_rule weights) {
  support::program_set p{s,
                         weights,
                         pw::backward_form::split,
                         {},
                         {},
                         rank_of,
                         std::vector<pw::slot_depths>(rank_of.size()),
                         std::vector<int>(table.size())};
  for (auto const& row : table) {
    p.programs.emplace_back();
    for (auto const a : row) p.programs.back().push_back({a, 0});
  }
  return p;
}

orders table_of(support::program_set const& p) {
  orders table;
  for (auto const& row : p.programs) {
    table.emplace_back();
    for (auto const i : row) table.back().push_back(i.what);
  }
  return table;
}

/// Whether a table can say an action at all.
bool is_for_tables(pw::action a) {
  return a.what < pw::kind::recompute || pw::is_receive(a.what) || a.what == pw::kind::send_forward ||
         a.what == pw::kind::send_backward;
}

/// A compute-only table is right iff the safe rule can place its transfers and the result is right.
std::string brute_force_of(orders const& table, pw::shape s, std::vector<int> const& rank_of, pw::weight_rule weights,
                           bool transfers) {
  auto const counted = support::programs_of_table(table, s, rank_of, weights);
  if (transfers) return support::brute_force(counted);
  if (auto const why = support::miscounted(counted); !why.empty()) return why;
  auto const placed = support::with_safe_transfers(table, rank_of);
  return placed.empty() ? "the ranks wait for one another for ever"
                        : support::brute_force(support::programs_of_table(placed, s, rank_of, weights));
}

constexpr support::any_policy judged[] = {support::policy_of<pw::sequential>,
                                          support::policy_of<pw::gpipe>,
                                          support::policy_of<pw::flush>,
                                          support::policy_of<pw::interleaved<2>>,
                                          support::policy_of<pw::interleaved<3>>,
                                          support::policy_of<pw::one_f_one_b>,
                                          support::policy_of<support::descending_gpipe>,
                                          support::policy_of<support::zero_bubble_h1>,
                                          support::policy_of<support::breadth_first_v>};

void judge_tables(support::mutator& mutate, support::tallies& counts, bool transfers, int plans, int each) {
  for (auto const& policy : judged)
    for (int i = 0; i < plans; ++i) {
      auto s = policy.complete({1 + mutate.below(4), 1 + mutate.below(6)});
      if (!policy.check(s).ok()) continue;
      auto const rank_of = policy.placement(s);
      auto table = policy.orders(s);
      if (transfers) table = support::with_safe_transfers(table, rank_of);
      auto const sound = undressed(table, s, rank_of, policy.weights);
      CHECK_EQ(brute_force_of(table, s, rank_of, policy.weights, transfers), "");
      CHECK(support::check(table, policy.weights).ok());
      for (auto const fault : faults)
        for (int n = 0; n < each; ++n) {
          auto const m = mutate(fault, sound);
          if (!m) continue;
          auto const changed = table_of(m->programs);
          bool sayable = true, trains = false;  // a table without any backward is one of evaluation
          int sends_and_receives = 0;
          for (auto const& row : changed)
            for (auto const a : row) {
              sayable &= is_for_tables(a) && a.micro_batch >= 0;
              trains |= pw::gives_input_gradient(a.what);
              sends_and_receives += pw::is_transfer(a.what);
            }
          if (!sayable || !trains || (sends_and_receives > 0) != transfers) continue;
          support::agree(counts, fault, std::string{policy.name} + " " + support::describe(s), *m,
                         brute_force_of(changed, s, rank_of, policy.weights, transfers),
                         support::check(changed, policy.weights));
        }
    }
}

}  // namespace

TEST_CASE("mutants of tables with transfers") {
  support::tallies counts;
  support::mutator mutate{7};
  judge_tables(mutate, counts, true, 60, 2);
  MESSAGE(counts.table());
  CHECK_GE(counts.all().mutants, 5'000);
  CHECK_EQ(counts.disagreements, 0);
}

TEST_CASE("mutants of tables with compute actions only") {
  support::tallies counts;
  support::mutator mutate{8};
  judge_tables(mutate, counts, false, 60, 2);
  MESSAGE(counts.table());
  CHECK_GE(counts.all().mutants, 5'000);
  CHECK_EQ(counts.disagreements, 0);
}
