// SPDX-License-Identifier: Apache-2.0
// Single-fault mutants of tables with blocking sends and receives, and of tables with compute actions only, as a user
// would write them: check_table rejects exactly those that the brute force finds broken.
#include <support/mutation_run.hpp>
#include <support/safe_transfers.hpp>
#include <support/table_runs.hpp>

namespace pw = pipewright;
using support::mutation;
using support::orders;

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

void judge_tables(support::mutator& mutate, support::tallies& counts, bool transfers, int plans, int each) {
  auto judge = [&](auto policy) {
    using P = typename decltype(policy)::type;
    for (int i = 0; i < plans; ++i) {
      auto s = pw::complete<P>({1 + mutate.below(4), 1 + mutate.below(6)});
      if (!pw::check_shape<P>(s).ok()) continue;
      std::vector<int> rank_of;
      for (int stage = 0; stage < s.stages(); ++stage) rank_of.push_back(P::rank_of(s, stage));
      auto table = support::orders_of<P>(s);
      if (transfers) table = support::with_safe_transfers(table, rank_of);
      auto const sound = undressed(table, s, rank_of, P::weights);
      CHECK_EQ(brute_force_of(table, s, rank_of, P::weights, transfers), "");
      CHECK(support::check(table, P::weights).ok());
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
          support::agree(counts, fault, std::string{P::name} + " " + support::describe(s), *m,
                         brute_force_of(changed, s, rank_of, P::weights, transfers),
                         support::check(changed, P::weights));
        }
    }
  };
  pw::for_each_schedule(
      pw::schedule_list<pw::sequential, pw::gpipe, pw::flush, pw::interleaved<2>, pw::interleaved<3>, pw::one_f_one_b,
                        support::descending_gpipe, support::zero_bubble_h1, support::breadth_first_v>{},
      judge);
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
