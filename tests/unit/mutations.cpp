// SPDX-License-Identifier: Apache-2.0
// Single-fault mutants of plans: verify rejects exactly those that the brute force finds broken. A seeded sample; the
// full number is in tests/long.
#include <support/mutation_run.hpp>
#include <support/plans.hpp>

namespace pw = pipewright;
int main0();
TEST_CASE("mutants") {
  support::tallies counts;
  support::mutator mutate{1};
  pw::for_each_schedule(pw::all_schedules{}, [&](auto policy) {
    using P = typename decltype(policy)::type;
    for (pw::shape s : {pw::shape{2, 2}, {3, 4}, {4, 3}, {2,4,0,0,2}, {5,6}, {3,3,0,0,2}, {1,3}}) {
      if (!pw::is_stream(P::weights)) s.batches = 1;
      s = pw::complete<P>(s);
      if (!pw::check_shape<P>(s).ok()) continue;
      for (auto mode : {pw::recompute_mode::never, pw::recompute_mode::except_last, pw::recompute_mode::always}) 
        support::judge_mutants(support::sound_programs<P>(s, {mode}), std::string{P::name} + " " + support::describe(s), mutate, 8, counts);
      if (P::weights == pw::weight_rule::synchronous && P::backward != pw::backward_form::none && s.stages() > 1) {
        support::judge_mutants(support::sound_programs<P>(s, {pw::recompute_mode::never, true, -1, -1}), std::string{P::name} + " facts " + support::describe(s), mutate, 8, counts);
        support::judge_mutants(support::sound_programs<P>(s, {pw::recompute_mode::never, true, 0, s.stages()-1}), std::string{P::name} + " facts+tied " + support::describe(s), mutate, 8, counts);
      }
    }
  });
  MESSAGE(support::table_of(counts));
}
