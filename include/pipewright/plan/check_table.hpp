// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/plan/lower.hpp>
#include <pipewright/plan/memory.hpp>
#include <pipewright/plan/verify.hpp>
#include <pipewright/schedule/csv.hpp>

namespace pipewright::inline v0 {

/// What a table does not say itself.
struct table_options {
  weight_rule weights = weight_rule::synchronous;
  int batches = 1;                      ///< updates that the table's micro-batches make under double_buffered
  std::vector<int> rank_of_stage = {};  ///< by stage; empty: each stage stands where its actions stand
};

/// F, B, I, W and their blocking transfers: what a table may hold. All else of a plan is derived.
constexpr bool belongs_in_table(kind k) {
  return k < kind::recompute || k == kind::send_forward || k == kind::receive_forward || k == kind::send_backward ||
         k == kind::receive_backward;
}
/// Why an action of another kind is refused, in a sentence.
inline std::string has_no_place(action const& a) {
  return std::string(action_text(a).view()) +
         " has no place in a table: it holds F, B, I, W, SEND_F, RECV_F, SEND_B and RECV_B, all else is derived";
}

namespace detail {

/// A table made ready for verify: ranks in the order of their first stages, those without a stage left out; where ranks
/// hold different numbers of stages, empty ranks are added so that S = P * V.
class table_judge {
 public:
  table_judge(rows_view<action> table, table_options const& options) : table_{table}, options_{options} {
    refuse_foreign_actions();
    stages_ = std::max(stages_of(table), static_cast<int>(options.rank_of_stage.size()));
    total_ = micro_batches_of(table);
    if (options.batches < 1 || total_ % options.batches != 0)
      throw error("the table's " + std::to_string(total_) + " micro-batches do not make " +
                  std::to_string(options.batches) + " batches of one size");
    rank_of_stage_ = options.rank_of_stage.empty() ? ranks_of_stages(table) : options.rank_of_stage;
    for (int& rank : rank_of_stage_)
      if (rank >= table.count)
        throw error("the placement names rank " + std::to_string(rank) + ", but the table has " +
                    std::to_string(table.count) + " ranks");
    for (std::size_t s = 0; s < rank_of_stage_.size(); ++s)
      if (rank_of_stage_[s] < 0) rank_of_stage_[s] = static_cast<int>(s) % table.count;  // a stage without any action
  }

  verdict judge() {
    if (auto const v = check_placement(); !v.ok()) return v;
    if (auto const v = check_number(); !v.ok()) return v;
    number_ranks();
    bool const transfers = has_transfers(table_);
    rows<action> const orders = internal_rows([&](action a) { return !transfers || is_compute(a.what); });
    if (auto const v = check_complete(orders.view(), plan_.facts, places_.data(), plan_.backward); !v.ok())
      return located(v, [](action) { return true; }, orders.view(), [](action a) { return is_compute(a.what); });
    return transfers ? judge_as_it_stands() : judge_lowered(orders.view());
  }

 private:
  void refuse_foreign_actions() const {
    for (int r = 0; r < table_.count; ++r)
      for (int at = 0; at < table_.length(r); ++at) {
        action const a = table_.begin_of(r)[at];
        if (!belongs_in_table(a.what))
          throw error("rank " + std::to_string(r) + ", position " + std::to_string(at) + ": " + has_no_place(a));
      }
  }

  verdict check_placement() const {
    for (int r = 0; r < table_.count; ++r)
      for (int at = 0; at < table_.length(r); ++at) {
        action const a = table_.begin_of(r)[at];
        if (a.stage >= rank_of_stage_.size() || rank_of_stage_[a.stage] != r) return {rule::placement, r, at, a};
      }
    return sound;
  }

  /// Fewer forwards than stages times micro-batches: the first that is missing, found without room for all.
  verdict check_number() const {
    std::int64_t forwards = 0;
    for (std::size_t i = 0; i < table_.total(); ++i) forwards += table_.items[i].what == kind::forward;
    if (forwards >= std::int64_t{stages_} * total_) return sound;
    block<bool> found(static_cast<std::size_t>(forwards) + 1);  // of the first so many, not all can be there
    for (std::size_t i = 0; i < table_.total(); ++i)
      if (action const a = table_.items[i]; a.what == kind::forward)
        if (std::int64_t const its = std::int64_t{a.stage} * total_ + a.micro_batch; its <= forwards)
          found[static_cast<std::size_t>(its)] = true;
    std::int64_t missing = 0;
    while (found[static_cast<std::size_t>(missing)]) ++missing;
    int const stage = static_cast<int>(missing / total_), rank = rank_of_stage_[stage];
    return {rule::complete, rank, table_.length(rank), forward(stage, static_cast<int>(missing % total_))};
  }

  void number_ranks() {
    for (int const rank : rank_of_stage_)
      if (std::find(rank_at_.begin(), rank_at_.end(), rank) == rank_at_.end()) rank_at_.push_back(rank);
    int const held = static_cast<int>(rank_at_.size());
    std::vector<int> number(static_cast<std::size_t>(table_.count), -1), stages(static_cast<std::size_t>(held));
    for (int i = 0; i < held; ++i) number[rank_at_[i]] = i;
    for (int const rank : rank_of_stage_) {
      places_.push_back(number[rank]);
      ++stages[places_.back()];
    }
    bool const even = std::all_of(stages.begin(), stages.end(), [&](int n) { return n == stages[0]; });
    if (!(even && stages[0] == 1) &&
        (options_.weights == weight_rule::stashing || options_.weights == weight_rule::vertical_sync))
      throw error(
          "weight stashing is defined for one stage a rank, and this table has more; check it with --weights sync or "
          "2bw");

    plan_.schedule = "table";
    plan_.facts = {.ranks = even ? held : stages_,
                   .micro_batches = total_ / options_.batches,
                   .chunks = even ? stages[0] : 1,
                   .batches = options_.batches};
    plan_.weights = options_.weights;
    plan_.backward = backward_of(table_);
    plan_.rank_of_stage = places_.data();
    for (int r = 0; r < plan_.facts.ranks; ++r) buffers_.push_back(version_bound(plan_.weights, plan_.facts, r));
    plan_.weight_buffers = buffers_.data();
  }

  int length_of(int internal) const {
    return internal < static_cast<int>(rank_at_.size()) ? table_.length(rank_at_[internal]) : 0;
  }

  rows<action> internal_rows(auto&& keep) const {
    rows<action> result(plan_.facts.ranks, table_.total());
    std::size_t next = 0;
    for (int r = 0; r < plan_.facts.ranks; ++r) {
      for (int at = 0; at < length_of(r); ++at)
        if (action const a = table_.begin_of(rank_at_[r])[at]; keep(a)) result.items[next++] = a;
      result.first[r + 1] = next;
    }
    return result;
  }

  /// A verdict about internal rows, in the table's own ranks and positions: `counts` says which internal actions stand
  /// in the table, `counted` which of the table's actions they are.
  template<class T>
  verdict located(verdict v, auto&& counts, rows_view<T> rows, auto&& counted) const {
    auto plain = [](T const& t) {
      if constexpr (std::is_same_v<T, action>) return t;
      else return t.what;
    };
    int ordinal = 0;
    for (int at = 0; at < v.position && at < rows.length(v.rank); ++at)
      ordinal += counts(plain(rows.begin_of(v.rank)[at]));
    int position = 0;
    for (int const n = length_of(v.rank); position < n; ++position)
      if (counted(table_.begin_of(rank_at_[v.rank])[position]) && ordinal-- == 0) break;
    v.rank = rank_at_[v.rank];
    v.position = position;
    return v;
  }

  verdict judge_lowered(rows_view<action> orders) {
    meeting met = meet(orders, plan_.facts, places_.data(), plan_.backward);
    auto in_table = [](action a) { return is_compute(a.what); };
    if (!met.found.ok()) return located(met.found, in_table, orders, in_table);
    rows<instruction> const programs = lower(orders, static_cast<meeting&&>(met), plan_);
    return located_proof(programs.view(), in_table);
  }

  /// The table's own transfers, and the updates where the weight rule has them.
  verdict judge_as_it_stands() {
    int const interval = plan_.update_interval();
    rows<action> const all = internal_rows([](action) { return true; });
    std::size_t const updates = plan_.backward == backward_form::none
                                    ? 0
                                    : static_cast<std::size_t>(stages_) * static_cast<std::size_t>(total_ / interval);
    rows<instruction> programs(plan_.facts.ranks, table_.total() + updates);
    std::size_t next = 0;
    for (int r = 0; r < plan_.facts.ranks; ++r) {
      int const held = static_cast<int>(std::count(places_.begin(), places_.end(), r));
      std::vector<int> left(static_cast<std::size_t>(total_ / interval), held * interval);
      for (action const a : all.view()[r]) {
        programs.items[next++] = {a,
                                  is_compute(a.what) ? version_read(plan_.weights, plan_.facts, r, a.micro_batch) : 0};
        if (!gives_weight_gradient(a.what)) continue;
        int const batch = a.micro_batch / interval;
        if (--left[batch] != 0) continue;
        for (int s = 0; s < stages_; ++s)
          if (places_[s] == r)
            programs.items[next++] = {make_action(kind::update, s, (batch + 1) * interval - 1), batch + 1};
      }
      programs.first[r + 1] = next;
    }
    return located_proof(programs.view(), [](action a) { return a.what != kind::update; });
  }

  verdict located_proof(rows_view<instruction> programs, auto&& in_table) {
    plan_.programs = programs;
    block<slot_depths> const slots = plan_slots(plan_);
    plan_.slots = slots.data();
    verdict const v = verify(plan_);
    return v.ok() ? v : located(v, in_table, programs, [](action) { return true; });
  }

  rows_view<action> table_;
  table_options const& options_;
  int stages_ = 0, total_ = 0;
  std::vector<int> rank_of_stage_;  // of the table
  std::vector<int> rank_at_;        // the table's rank of each internal rank
  std::vector<int> places_;         // internal rank of each stage
  std::vector<int> buffers_;
  plan_view plan_{};
};

}  // namespace detail

/// Judges a schedule given as a table, by the rules of every plan. Compute actions only: it is lowered and verified.
/// With transfers: as it stands, every SEND and RECV a blocking rendezvous. The fault is located in the table's own ranks
/// and positions. Throws pipewright::error where the options do not fit the table. Linear.
inline verdict check_table(rows_view<action> table, table_options const& options = {}) {
  return detail::table_judge(table, options).judge();
}

}  // namespace pipewright::inline v0
