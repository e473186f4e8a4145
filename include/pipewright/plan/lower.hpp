// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/plan/channels.hpp>
#include <pipewright/plan/rendezvous.hpp>

namespace pipewright::inline v0 {

namespace detail {

/// Turns where transfers *may* be received into where receives are posted: one ahead on each channel, so that a link's
/// latency hides behind the consumer before, and never later than the safe place. Sorts each rank's arrivals by that
/// place, channels keeping their order. Posting earlier and waiting later than a blocking receive only removes waits,
/// so what was free of deadlock stays so (and verify runs it all the same).
constexpr void post_ahead(meeting& met, rows_view<action> orders, shape s, channel_table const& channels) {
  std::size_t const stages = static_cast<std::size_t>(s.stages()), total = static_cast<std::size_t>(s.total_micro_batches());
  block<std::int32_t> forward_at(stages * total), backward_at(stages * total);
  std::size_t longest = 0, most = 0;
  for (int r = 0; r < s.ranks; ++r) {
    action const* row = orders.begin_of(r);
    std::size_t const n = static_cast<std::size_t>(orders.length(r));
    for (std::size_t at = 0; at < n; ++at) {
      std::size_t const here = row[at].stage * total + static_cast<std::size_t>(row[at].micro_batch);
      if (row[at].what == kind::forward) forward_at[here] = static_cast<std::int32_t>(at);
      else if (gives_input_gradient(row[at].what)) backward_at[here] = static_cast<std::int32_t>(at);
    }
    longest = n > longest ? n : longest;
    std::size_t const in = static_cast<std::size_t>(met.arrivals.view().length(r));
    most = in > most ? in : most;
  }
  block<std::int32_t> next_in_channel(static_cast<std::size_t>(channels.count()) + 1);
  block<std::int32_t> place(longest + 2);
  block<arrival> sorted(most);
  for (int r = 0; r < s.ranks; ++r) {
    arrival* const in = met.arrivals.items.data() + met.arrivals.first[static_cast<std::size_t>(r)];
    int const n = met.arrivals.view().length(r);
    auto channel = [&](arrival const& a) {
      return channels.of(make_action(a.consumer.what == kind::forward ? kind::post_forward : kind::post_backward,
                                     a.consumer.stage, a.consumer.micro_batch));
    };
    // Backwards: the transfer after this one in the channel is posted at this one's consumer at the latest.
    for (int c = 0; c < channels.count(); ++c) next_in_channel[static_cast<std::size_t>(c)] = -1;
    for (int i = n - 1; i >= 0; --i) {
      std::size_t const here = in[i].consumer.stage * total + static_cast<std::size_t>(in[i].consumer.micro_batch);
      std::int32_t const consumed = (in[i].consumer.what == kind::forward ? forward_at : backward_at)[here];
      if (consumed < in[i].before) in[i].before = consumed;
      std::int32_t& later = next_in_channel[static_cast<std::size_t>(channel(in[i]))];
      if (later >= 0) {
        if (consumed < in[later].before) in[later].before = consumed;
        if (in[later].before < in[i].before) in[i].before = in[later].before;
      }
      later = i;
    }
    for (int c = 0; c < channels.count(); ++c)
      if (int const head = next_in_channel[static_cast<std::size_t>(c)]; head >= 0) in[head].before = 0;
    for (std::size_t at = 0; at < longest + 2; ++at) place[at] = 0;
    for (int i = 0; i < n; ++i) ++place[static_cast<std::size_t>(in[i].before) + 1];
    for (std::size_t at = 1; at < longest + 2; ++at) place[at] += place[at - 1];
    for (int i = 0; i < n; ++i) sorted[static_cast<std::size_t>(place[static_cast<std::size_t>(in[i].before)]++)] = in[i];
    for (int i = 0; i < n; ++i) in[i] = sorted[static_cast<std::size_t>(i)];
  }
}

/// Writes one rank's program: calls emit(instruction) in order.
class program_writer {
 public:
  constexpr program_writer(plan_view const& facts, int rank, int const* first_stage_of_rank)
      : plan_{facts}, rank_{rank}, stages_{facts.stages()}, interval_{facts.update_interval()},
        batches_{facts.backward == backward_form::none ? 0 : facts.facts.total_micro_batches() / facts.update_interval()},
        first_stage_of_rank_{first_stage_of_rank}, left_(static_cast<std::size_t>(batches_)) {
    for (int s = 0; s < stages_; ++s) held_ += here(s);
    own_ = block<int>(static_cast<std::size_t>(held_));
    for (int s = 0, i = 0; s < stages_; ++s)
      if (here(s)) own_[static_cast<std::size_t>(i++)] = s;
    for (int b = 0; b < batches_; ++b) left_[static_cast<std::size_t>(b)] = held_ * interval_;
  }

  constexpr void run(std::span<action const> order, std::span<arrival const> arrivals, auto&& emit) {
    auto act = [&](kind what, int stage, int micro_batch, int version = 0) {
      emit(instruction{make_action(what, stage, micro_batch), version});
    };
    for (int ahead = 0; ahead < exchange_window(plan_.weights, plan_.facts); ++ahead) post_exchange(act, ahead);
    std::size_t posted = 0;
    for (std::size_t at = 0; at < order.size(); ++at) {
      action const a = order[at];
      int const s = a.stage, m = a.micro_batch;
      for (; posted < arrivals.size() && arrivals[posted].before <= static_cast<std::int32_t>(at); ++posted) {
        action const c = arrivals[posted].consumer;
        act(c.what == kind::forward ? kind::post_forward : kind::post_backward, c.stage, c.micro_batch);
      }
      int const version = version_read(plan_.weights, plan_.facts, rank_, m);
      if (a.what == kind::forward)
        while (updated_ < version && updated_ < exchanged_) finish_update(act);
      if (a.what == kind::forward && s > 0 && !here(s - 1)) act(kind::wait_forward, s, m);
      if (gives_input_gradient(a.what)) {
        if (s + 1 < stages_ && !here(s + 1)) act(kind::wait_backward, s, m);
        if (is_recomputed(plan_.wants.recompute, plan_.facts, m)) act(kind::recompute, s, m, version);
      }
      emit(instruction{a, version});
      if (a.what == kind::forward && s + 1 < stages_ && !here(s + 1)) act(kind::send_forward, s, m);
      if (gives_input_gradient(a.what) && s > 0 && !here(s - 1)) act(kind::send_backward, s, m);
      if (gives_weight_gradient(a.what) && --left_[static_cast<std::size_t>(m / interval_)] == 0) begin_update(act);
    }
    while (updated_ < exchanged_) finish_update(act);
  }

 private:
  constexpr bool here(int stage) const { return plan_.rank_of_stage[stage] == rank_; }
  constexpr int root() const { return plan_.rank_of_stage[0]; }
  constexpr bool exchanges() const { return plan_.wants.step_facts || plan_.wants.tied(); }
  constexpr int last_of(int batch) const { return (batch + 1) * interval_ - 1; }

  /// The tied stage that stands here while its twin stands elsewhere, or -1.
  constexpr int tied_stage() const {
    needs const w = plan_.wants;
    if (!w.tied() || here(w.tied_first) == here(w.tied_second)) return -1;
    return here(w.tied_first) ? w.tied_first : w.tied_second;
  }
  /// The norm counts a tied weight once, at its first stage, and only after both halves of its gradient are summed.
  constexpr bool facts_follow_the_tie() const { return tied_stage() >= 0 && tied_stage() == plan_.wants.tied_first; }

  /// Receives of an update's exchange are posted as soon as their slots are free.
  constexpr void post_exchange(auto& act, int batch) const {
    if (!exchanges() || batch >= batches_) return;
    int const m = last_of(batch);
    if (tied_stage() >= 0) act(kind::post_tied, tied_stage(), m);
    if (!plan_.wants.step_facts) return;
    if (rank_ == root()) {
      for (int r = 0; r < plan_.facts.ranks; ++r)
        if (r != rank_) act(kind::post_facts, first_stage_of_rank_[r], m);
    } else {
      act(kind::post_verdict, first_stage_of_rank_[rank_], m);
    }
  }

  /// A batch's last backward is done here.
  constexpr void begin_update(auto& act) {
    int const m = last_of(exchanged_);
    if (tied_stage() >= 0) act(kind::send_tied, tied_stage(), m);
    if (plan_.wants.step_facts && rank_ != root()) {
      if (facts_follow_the_tie()) act(kind::wait_tied, tied_stage(), m);  // its twin, a later stage, has sent it before
      act(kind::send_facts, first_stage_of_rank_[rank_], m);
    }
    ++exchanged_;
    // An exchange in a stream waits until its result is due; all others end here.
    if (!exchanges() || !is_stream(plan_.weights)) finish_update(act);
  }

  constexpr void finish_update(auto& act) {
    int const m = last_of(updated_);
    bool const sent_after_the_tie = plan_.wants.step_facts && rank_ != root() && facts_follow_the_tie();
    if (tied_stage() >= 0 && !sent_after_the_tie) act(kind::wait_tied, tied_stage(), m);
    if (plan_.wants.step_facts) {
      if (rank_ == root()) {
        for (int r = 0; r < plan_.facts.ranks; ++r)
          if (r != rank_) act(kind::wait_facts, first_stage_of_rank_[r], m);
        for (int r = 0; r < plan_.facts.ranks; ++r)
          if (r != rank_) act(kind::send_verdict, first_stage_of_rank_[r], m);
      } else {
        act(kind::wait_verdict, first_stage_of_rank_[rank_], m);
      }
    }
    ++updated_;
    for (int i = 0; i < held_; ++i) act(kind::update, own_[static_cast<std::size_t>(i)], m, updated_);
    post_exchange(act, updated_ - 1 + exchange_window(plan_.weights, plan_.facts));
  }

  plan_view const& plan_;
  int rank_, stages_, interval_, batches_;
  int const* first_stage_of_rank_;
  block<int> own_;      // the rank's stages
  int held_ = 0;        // how many
  block<int> left_;     // weight gradients a batch still lacks on this rank
  int exchanged_ = 0;   // batches whose gradients are complete here
  int updated_ = 0;     // batches whose update is done here
};

}  // namespace detail

/// Compute orders to programs: receives posted one ahead and waited for just before their consumer, sends right after
/// their producer, recomputation before its backward, step exchange and updates after a batch's last backward, weight
/// versions as the rule has them. `facts` says all but the programs. Linear in time and memory.
constexpr rows<instruction> lower(rows_view<action> orders, meeting met, plan_view const& facts) {
  channel_table const channels = channels_of(facts);
  detail::post_ahead(met, orders, facts.facts, channels);
  block<int> first_stage(static_cast<std::size_t>(facts.facts.ranks));
  for (int s = facts.stages() - 1; s >= 0; --s) first_stage[static_cast<std::size_t>(facts.rank_of_stage[s])] = s;

  std::size_t total = 0;
  auto each_rank = [&](auto&& emit, auto&& end_of_rank) {
    for (int r = 0; r < facts.facts.ranks; ++r) {
      detail::program_writer(facts, r, first_stage.data()).run(orders[r], met.arrivals.view()[r], emit);
      end_of_rank(r);
    }
  };
  each_rank([&](instruction) { ++total; }, [](int) {});
  rows<instruction> programs(facts.facts.ranks, total);
  instruction* next = programs.items.data();
  each_rank([&](instruction i) { *next++ = i; },
            [&](int r) { programs.first[static_cast<std::size_t>(r) + 1] = static_cast<std::size_t>(next - programs.items.data()); });
  return programs;
}

}  // namespace pipewright::inline v0
