// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/partition/cut_plan.hpp>
#include <pipewright/partition/step_time.hpp>

namespace pipewright::inline v0 {

/// What a planner may choose from.
struct plan_choices {
  int batch = 1;               ///< samples of a step, over all micro-batches
  std::vector<int> samples{};  ///< of a micro-batch; those that divide the batch are tried. Empty: all that do
  std::vector<std::string> schedules{};  ///< names; empty: all of the list that train
  std::vector<recompute_mode> recompute{recompute_mode::never, recompute_mode::always};
  int most_chunks = 4;       ///< of a rank, for schedules that have them
  std::vector<int> sizes{};  ///< a cut to use instead of the best; for the schedules that have so many stages
  long long most_actions =
      4'000'000;              ///< forwards and backwards that are simulated; larger plans are left out, and said
  int worth_simulating = 64;  ///< so many are simulated, and more while one may be faster than the slowest of them
  double not_worth = 1e-3;    ///< .. by more than this part of its time
};

/// One way to train.
struct plan_candidate {
  std::string schedule;
  shape facts;
  int samples = 1;  ///< of a micro-batch
  recompute_mode recompute = recompute_mode::never;

  enum class state : char {
    fits,        ///< all below is known
    too_large,   ///< no cut that was found stays within the memory; `sizes` and `memory` are those of the leanest cut
    too_slow,    ///< not looked at: it cannot beat those that fit; `seconds_at_least` says why
    not_looked,  ///< more actions to simulate than plan_choices::most_actions
  };
  state is = state::too_slow;
  double seconds_at_least =
      0;                     ///< of a step: with the best of cuts, no link and no wait but the filling of the pipeline
  std::vector<int> sizes{};  ///< layers of each stage
  double gap = 0;            ///< of a cut that was looked for, see planned_cut
  std::vector<rank_memory> memory{};
  step_time time{};

  double seconds() const { return time.total(); }
  double most_memory() const { return detail::dearest_memory(memory); }
};

/// What a planner has found: the fastest first, then those that do not fit by what they need, then those that it has not
/// looked at.
struct plan_ranking {
  std::vector<plan_candidate> candidates;
  double bound = 0;  ///< seconds of a step that no plan beats: all devices busy all the time, nothing done twice

  plan_candidate const* best() const {
    return candidates.empty() || candidates.front().is != plan_candidate::state::fits ? nullptr : &candidates.front();
  }
  /// Where nothing fits: what needs least memory.
  plan_candidate const* leanest() const {
    for (auto const& each : candidates)
      if (each.is == plan_candidate::state::too_large) return &each;
    return nullptr;
  }
};

namespace detail {

/// A lower bound of a step's seconds, for any cut.
template<schedule_policy P>
double seconds_at_least(shape s, model_profile const& of, cluster const& on, recompute_mode recompute) {
  double work = 0, dearest = 0, path = 0;
  for (auto const& l : of.layers) {
    double const here = l.work() + (recompute == recompute_mode::always ? l.recompute : 0);
    work += here;
    dearest = std::max(dearest, here);
    path += l.forward + l.backward_input + (P::backward == backward_form::full ? l.backward_weight : 0);
  }
  double const least_pace = on.pace.empty() ? 1 : *std::min_element(on.pace.begin(), on.pace.end());
  double const busy = std::max(work / on.devices(), dearest * least_pace) * s.micro_batches;
  return is_stream(P::weights) ? busy : std::max(busy, path * least_pace);  // one micro-batch through all of the model
}

}  // namespace detail

/// Looks for the fastest way to train a model on a cluster: every schedule of the list that trains, every micro-batch size,
/// number of chunks and recomputation that plan_choices allows, each with its best cut (cut_plan) and its step simulated
/// (time_of_step). `tell(done, all)` is called now and then. Deterministic. Throws error where profile, cluster or choices
/// are none.
///
/// Candidates are looked at in the order of a bound, so that few plans are made where many are possible; those whose bound is
/// above the step time of enough others are left out, and say so.
template<class Schedules = all_schedules>
plan_ranking rank_plans(model_profile const& of, cluster const& on, plan_choices const& among,
                        std::function<void(std::size_t, std::size_t)> const& tell = {}) {
  check(of);
  check(on);
  if (among.batch < 1) throw error("a batch has at least one sample, not " + std::to_string(among.batch));
  if (among.recompute.empty()) throw error("a planner needs one mode of recomputation to choose from, or more");

  std::vector<plan_candidate> open;
  auto const add = [&]<schedule_policy P>(int samples, int chunks, recompute_mode recompute) {
    shape const s = complete<P>({.ranks = on.ranks, .micro_batches = among.batch / samples, .chunks = chunks});
    if (!check_shape<P>(s).ok() || s.stages() > of.count()) return;
    if (!among.sizes.empty() && static_cast<int>(among.sizes.size()) != s.stages()) return;
    plan_candidate made{.schedule = std::string(P::name), .facts = s, .samples = samples, .recompute = recompute};
    made.seconds_at_least = detail::seconds_at_least<P>(s, scaled(of, samples), on, recompute);
    long long const micro_batches = s.total_micro_batches() + (is_stream(P::weights) ? 4LL * s.ranks : 0);  // simulated
    if (2LL * s.stages() * micro_batches > among.most_actions) made.is = plan_candidate::state::not_looked;
    open.push_back(std::move(made));
  };
  std::vector<int> sizes = among.samples;
  if (sizes.empty())
    for (int n = 1; n <= among.batch / n; ++n)
      if (among.batch % n == 0) sizes.insert(sizes.end(), {n, among.batch / n});
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  for_each_schedule(Schedules{}, [&]<class P>(std::type_identity<P>) {
    auto const& named = among.schedules;
    if (!named.empty() && std::find(named.begin(), named.end(), P::name) == named.end()) return;
    if constexpr (P::backward != backward_form::none)
      for (int const samples : sizes) {
        if (samples < 1 || among.batch % samples != 0) continue;
        for (recompute_mode const recompute : among.recompute)
          for (int chunks = 1; chunks <= std::min(among.most_chunks, of.count() / on.ranks); ++chunks)
            add.template operator()<P>(samples, chunks, recompute);
      }
  });
  std::stable_sort(open.begin(), open.end(),
                   [](auto const& a, auto const& b) { return a.seconds_at_least < b.seconds_at_least; });

  std::vector<double> found;  // seconds of those that fit, the fastest first
  auto const enough = static_cast<std::size_t>(std::max(among.worth_simulating, 1));
  for (std::size_t i = 0; i < open.size(); ++i) {
    auto& c = open[i];
    if (tell) tell(i, open.size());
    if (c.is == plan_candidate::state::not_looked) continue;
    if (found.size() >= enough && c.seconds_at_least >= found[enough - 1] * (1 - among.not_worth)) continue;
    auto const profile = scaled(of, c.samples);
    auto const plan = make_plan<Schedules>(c.schedule, c.facts, {.recompute = c.recompute});
    auto cut = among.sizes.empty() ? cut_plan(plan, profile, on) : std::optional(planned_cut{among.sizes});
    if (cut) {
      c.memory = memory_of_ranks(plan, profile, cut->sizes);
      if (c.most_memory() > on.memory) cut.reset();
    }
    if (!cut) {
      c.is = plan_candidate::state::too_large;
      c.sizes = among.sizes.empty() ? *leanest_cut(plan, profile) : among.sizes;
      c.memory = memory_of_ranks(plan, profile, c.sizes);
      continue;
    }
    c.is = plan_candidate::state::fits;
    c.sizes = std::move(cut->sizes);
    c.gap = cut->gap;
    c.time = time_of_step(plan, profile, c.sizes, on);
    found.insert(std::upper_bound(found.begin(), found.end(), c.seconds()), c.seconds());
  }
  if (tell) tell(open.size(), open.size());

  plan_ranking ranking;
  for (auto const& l : of.layers) ranking.bound += l.work() * among.batch / of.samples / on.devices();
  ranking.candidates = std::move(open);
  auto const key = [&](plan_candidate const& c) {
    using enum plan_candidate::state;
    // Rounded, so that of equally fast ones the one that holds least comes first.
    return std::pair(c.is == fits        ? std::round(1e9 * c.seconds() / ranking.bound)
                     : c.is == too_large ? c.most_memory()
                                         : c.seconds_at_least,
                     c.most_memory());
  };
  std::stable_sort(ranking.candidates.begin(), ranking.candidates.end(),
                   [&](auto const& a, auto const& b) { return std::pair(a.is, key(a)) < std::pair(b.is, key(b)); });
  return ranking;
}

}  // namespace pipewright::inline v0
