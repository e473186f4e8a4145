// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/plan/plan_view.hpp>
#include <pipewright/schedule/rows.hpp>

namespace pipewright::inline v0::detail {

/// What is done of every update while a plan's programs run: its weight gradients, what ranks tell one another before it
/// (a tied weight's gradient, facts, the verdict drawn from them), and whether it has changed the weights.
class update_ledger {
 public:
  constexpr explicit update_ledger(plan_view const& p)
      : plan_{p},
        interval_{p.update_interval()},
        updates_{p.facts.total_micro_batches() / interval_},
        newest_(size(p.stages())),
        finished_(size(p.stages()) * size(updates_)),
        twins_(p.wants.tied() ? size(p.stages()) * size(updates_) : 0),
        facts_(p.wants.step_facts ? size(p.facts.ranks) * size(updates_) : 0),
        verdicts_(facts_.size()),
        verdicts_sent_(p.wants.step_facts ? size(updates_) : 0) {}

  /// That every stage is to do.
  constexpr int updates() const { return updates_; }
  /// Updates done, by stage.
  constexpr int* newest_by_stage() { return newest_.data(); }
  /// Weight gradients done, by stage and update: so many of them are all.
  constexpr int* finished_by_stage() { return finished_.data(); }
  constexpr bool is_finished(int stage, int update) const { return finished_[at(stage, update)] == interval_; }

  /// What has been waited for: a stage's twin's gradient, a rank's facts, a rank's verdict.
  constexpr bool& has_twin(int stage, int update) { return twins_[at(stage, update)]; }
  constexpr bool& has_facts(int rank, int update) { return facts_[at(rank, update)]; }
  constexpr bool& has_verdict(int rank, int update) { return verdicts_[at(rank, update)]; }
  /// By the rank of the first stage, which draws them.
  constexpr int& verdicts_sent(int update) { return verdicts_sent_[size(update)]; }

  /// Whether a stage shares a weight with a stage of another rank.
  constexpr bool is_tied_apart(int stage) const { return is_tied(stage) && rank_of_tied(0) != rank_of_tied(1); }
  /// Whether a rank has done an update, on one stage or (-1) on all of its stages.
  constexpr bool is_updated(int rank, int stage, int update) const {
    for (int s = 0; s < plan_.stages(); ++s)
      if ((stage < 0 ? plan_.rank_of_stage[s] == rank : s == stage) && newest_[size(s)] <= update) return false;
    return true;
  }
  /// Whether all of a rank's gradients are complete, a tied one with its twin's share where the rank's facts count it.
  constexpr bool facts_are_ready(int rank, int update) const {
    for (int s = 0; s < plan_.stages(); ++s)
      if (plan_.rank_of_stage[s] == rank &&
          (!is_finished(s, update) || (is_tied_apart(s) && s == plan_.wants.tied_first && !twins_[at(s, update)])))
        return false;
    return true;
  }
  constexpr bool root_knows_all(int update) const {
    int const root = plan_.rank_of_stage[0];
    for (int other = 0; other < plan_.facts.ranks; ++other)
      if (other != root && !facts_[at(other, update)]) return false;
    return facts_are_ready(root, update);
  }
  /// Whether a stage, its own gradients complete, has been told all that its update depends on.
  constexpr bool may_update(int rank, int stage, int update) const {
    if (is_tied_apart(stage) && !twins_[at(stage, update)]) return false;
    if (int const twin = twin_here(stage); twin >= 0 && !is_finished(twin, update)) return false;
    return !plan_.wants.step_facts ||
           (plan_.rank_of_stage[0] == rank ? root_knows_all(update) : verdicts_[at(rank, update)]);
  }

  /// Whether all is as it was in `earlier`, so many updates later.
  constexpr bool repeats(update_ledger const& earlier, int updates) const {
    for (std::size_t s = 0; s < newest_.size(); ++s)
      if (newest_[s] != earlier.newest_[s] + updates) return false;
    auto const recurs = [&](auto const& now, auto const& then) {
      for (std::size_t i = 0; i < now.size(); ++i)
        if (i % size(updates_) + size(updates) < size(updates_) && now[i + size(updates)] != then[i]) return false;
      return true;
    };
    return recurs(finished_, earlier.finished_) && recurs(twins_, earlier.twins_) && recurs(facts_, earlier.facts_) &&
           recurs(verdicts_, earlier.verdicts_) && recurs(verdicts_sent_, earlier.verdicts_sent_);
  }

 private:
  static constexpr std::size_t size(int n) { return static_cast<std::size_t>(n); }
  constexpr std::size_t at(int stage_or_rank, int update) const {
    return size(stage_or_rank) * size(updates_) + size(update);
  }
  constexpr bool is_tied(int stage) const {
    return plan_.wants.tied() && (stage == plan_.wants.tied_first || stage == plan_.wants.tied_second);
  }
  constexpr int rank_of_tied(int which) const {
    return plan_.rank_of_stage[which == 0 ? plan_.wants.tied_first : plan_.wants.tied_second];
  }
  /// The stage on the same rank that a stage shares a weight with, or -1.
  constexpr int twin_here(int stage) const {
    if (!is_tied(stage) || is_tied_apart(stage)) return -1;
    return stage == plan_.wants.tied_first ? plan_.wants.tied_second : plan_.wants.tied_first;
  }

  plan_view const& plan_;
  int interval_, updates_;
  block<int> newest_, finished_;
  block<bool> twins_, facts_, verdicts_;
  block<int> verdicts_sent_;
};

}  // namespace pipewright::inline v0::detail
