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
  std::size_t const total = static_cast<std::size_t>(s.total_micro_batches());
  std::int32_t *const forward_at = met.forward_at.data(), *const backward_at = met.backward_at.data();
  int longest = 0, most = 0;
  for (int r = 0; r < s.ranks; ++r) {
    int const n = orders.length(r), in = met.arrivals.view().length(r);
    longest = n > longest ? n : longest;
    most = in > most ? in : most;
  }
  block<std::int32_t> newest(static_cast<std::size_t>(channels.count()) + 1),
      places(static_cast<std::size_t>(longest) + 2);
  std::int32_t *const next_in_channel = newest.data(), *const place = places.data();
  block<arrival> sorted(static_cast<std::size_t>(most));
  arrival* const to = sorted.data();
  for (int r = 0; r < s.ranks; ++r) {
    arrival* const in = met.arrivals.items.data() + met.arrivals.first[static_cast<std::size_t>(r)];
    int const n = met.arrivals.view().length(r);
    // Backwards: the transfer after this one in the channel is posted at this one's consumer at the latest.
    for (int c = 0; c < channels.count(); ++c) next_in_channel[c] = -1;
    for (int i = n - 1; i >= 0; --i) {
      action const& a = in[i].consumer;
      bool const of_forward = a.what == kind::forward;
      std::int32_t const consumed = (of_forward ? forward_at : backward_at)[a.stage * total + a.micro_batch] - 1;
      std::int32_t& before = in[i].before;
      if (consumed < before) before = consumed;
      std::int32_t& later =
          next_in_channel[of_forward ? channels.activations_into(a.stage) : channels.gradients_into(a.stage)];
      if (later >= 0) {
        std::int32_t& next = in[later].before;
        if (consumed < next) next = consumed;
        if (next < before) before = next;
      }
      later = i;
    }
    for (int c = 0; c < channels.count(); ++c)
      if (int const head = next_in_channel[c]; head >= 0) in[head].before = 0;
    for (int at = 0; at < longest + 2; ++at) place[at] = 0;
    for (int i = 0; i < n; ++i) ++place[in[i].before + 1];
    for (int at = 1; at < longest + 2; ++at) place[at] += place[at - 1];
    for (int i = 0; i < n; ++i) to[place[in[i].before]++] = in[i];
    for (int i = 0; i < n; ++i) in[i] = to[i];
  }
}

/// How many instructions all programs of a plan have together.
constexpr std::size_t program_size(plan_view const& p) {
  std::size_t const total = static_cast<std::size_t>(p.facts.total_micro_batches()),
                    stages = static_cast<std::size_t>(p.stages());
  bool const trains = p.backward != backward_form::none;
  std::size_t size = stages * total * (!trains ? 1 : p.backward == backward_form::full ? 2 : 3);
  for (std::size_t s = 1; s < stages; ++s)
    if (p.rank_of_stage[s - 1] != p.rank_of_stage[s]) size += total * (trains ? 6 : 3);  // SEND, POST, WAIT
  if (!trains) return size;
  for (std::size_t m = 0; m < total; ++m)
    if (is_recomputed(p.wants.recompute, p.facts, static_cast<int>(m))) size += stages;
  std::size_t exchanged = p.wants.step_facts ? 6 * static_cast<std::size_t>(p.facts.ranks - 1) : 0;  // both ways
  if (p.wants.tied() && p.rank_of_stage[p.wants.tied_first] != p.rank_of_stage[p.wants.tied_second]) exchanged += 6;
  return size + (stages + exchanged) * (total / static_cast<std::size_t>(p.update_interval()));
}

/// Writes one rank's program.
class program_writer {
 public:
  constexpr program_writer(plan_view const& facts, int rank, int const* first_stage_of_rank, instruction* into)
      : plan_{facts},
        rank_{rank},
        stages_{facts.stages()},
        interval_{facts.update_interval()},
        batches_{facts.backward == backward_form::none ? 0
                                                       : facts.facts.total_micro_batches() / facts.update_interval()},
        first_stage_of_rank_{first_stage_of_rank},
        next_{into},
        left_(static_cast<std::size_t>(batches_)) {
    for (int s = 0; s < stages_; ++s) held_ += here(s);
    own_ = block<int>(static_cast<std::size_t>(held_));
    for (int s = 0, i = 0; s < stages_; ++s)
      if (here(s)) own_[static_cast<std::size_t>(i++)] = s;
    for (int b = 0; b < batches_; ++b) left_[static_cast<std::size_t>(b)] = held_ * interval_;
  }

  /// Returns the end of what was written.
  constexpr instruction* run(row<action> order, row<arrival> arrivals) {
    for (int ahead = 0; ahead < exchange_window(plan_.weights, plan_.facts); ++ahead) post_exchange(ahead);
    arrival const *in = arrivals.data(), *const in_end = in + arrivals.size();
    int const* const rank_of = plan_.rank_of_stage;
    for (int at = 0, n = static_cast<int>(order.size()); at < n; ++at) {
      action const& a = order.items[at];
      int const s = a.stage;
      for (; in != in_end && in->before <= at; ++in) {
        action const& c = in->consumer;
        *next_++ = {{c.what == kind::forward ? kind::post_forward : kind::post_backward, false, c.stage, c.micro_batch},
                    0};
      }
      int const version = plan_.weights == weight_rule::synchronous
                              ? 0
                              : version_read(plan_.weights, plan_.facts, rank_, a.micro_batch);
      if (a.what == kind::forward) {
        while (updated_ < version && updated_ < exchanged_) finish_update();
        if (s > 0 && rank_of[s - 1] != rank_) *next_++ = {{kind::wait_forward, false, a.stage, a.micro_batch}, 0};
        *next_++ = {a, version};
        if (s + 1 < stages_ && rank_of[s + 1] != rank_)
          *next_++ = {{kind::send_forward, false, a.stage, a.micro_batch}, 0};
        continue;
      }
      bool const gives_input = a.what != kind::backward_weight;
      if (gives_input) {
        if (s + 1 < stages_ && rank_of[s + 1] != rank_)
          *next_++ = {{kind::wait_backward, false, a.stage, a.micro_batch}, 0};
        if (plan_.wants.recompute != recompute_mode::never &&
            is_recomputed(plan_.wants.recompute, plan_.facts, a.micro_batch))
          put(kind::recompute, s, a.micro_batch, version);
      }
      *next_++ = {a, version};
      if (gives_input && s > 0 && rank_of[s - 1] != rank_)
        *next_++ = {{kind::send_backward, false, a.stage, a.micro_batch}, 0};
      if (a.what != kind::backward_input && --left_[static_cast<std::size_t>(a.micro_batch / interval_)] == 0)
        begin_update();
    }
    while (updated_ < exchanged_) finish_update();
    return next_;
  }

 private:
  constexpr void put(kind what, int stage, int micro_batch, int version = 0) {
    *next_++ = {make_action(what, stage, micro_batch), version};
  }
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
  constexpr void post_exchange(int batch) {
    if (!exchanges() || batch >= batches_) return;
    int const m = last_of(batch);
    if (tied_stage() >= 0) put(kind::post_tied, tied_stage(), m);
    if (!plan_.wants.step_facts) return;
    if (rank_ == root()) {
      for (int r = 0; r < plan_.facts.ranks; ++r)
        if (r != rank_) put(kind::post_facts, first_stage_of_rank_[r], m);
    } else {
      put(kind::post_verdict, first_stage_of_rank_[rank_], m);
    }
  }

  /// A batch's last backward is done here.
  constexpr void begin_update() {
    int const m = last_of(exchanged_);
    if (tied_stage() >= 0) put(kind::send_tied, tied_stage(), m);
    if (plan_.wants.step_facts && rank_ != root()) {
      if (facts_follow_the_tie()) put(kind::wait_tied, tied_stage(), m);  // its twin, a later stage, has sent it before
      put(kind::send_facts, first_stage_of_rank_[rank_], m);
    }
    ++exchanged_;
    // An exchange in a stream waits until its result is due; all others end here.
    if (!exchanges() || !is_stream(plan_.weights)) finish_update();
  }

  constexpr void finish_update() {
    int const m = last_of(updated_);
    bool const sent_after_the_tie = plan_.wants.step_facts && rank_ != root() && facts_follow_the_tie();
    if (tied_stage() >= 0 && !sent_after_the_tie) put(kind::wait_tied, tied_stage(), m);
    if (plan_.wants.step_facts) {
      if (rank_ == root()) {
        for (int r = 0; r < plan_.facts.ranks; ++r)
          if (r != rank_) put(kind::wait_facts, first_stage_of_rank_[r], m);
        for (int r = 0; r < plan_.facts.ranks; ++r)
          if (r != rank_) put(kind::send_verdict, first_stage_of_rank_[r], m);
      } else {
        put(kind::wait_verdict, first_stage_of_rank_[rank_], m);
      }
    }
    ++updated_;
    for (int i = 0; i < held_; ++i) put(kind::update, own_[static_cast<std::size_t>(i)], m, updated_);
    post_exchange(updated_ - 1 + exchange_window(plan_.weights, plan_.facts));
  }

  plan_view const& plan_;
  int rank_, stages_, interval_, batches_;
  int const* first_stage_of_rank_;
  instruction* next_;
  block<int> own_;     // the rank's stages
  int held_ = 0;       // how many
  block<int> left_;    // weight gradients a batch still lacks on this rank
  int exchanged_ = 0;  // batches whose gradients are complete here
  int updated_ = 0;    // batches whose update is done here
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

  rows<instruction> programs(facts.facts.ranks, detail::program_size(facts));
  instruction* next = programs.items.data();
  for (int r = 0; r < facts.facts.ranks; ++r) {
    next = detail::program_writer(facts, r, first_stage.data(), next).run(orders[r], met.arrivals.view()[r]);
    programs.first[static_cast<std::size_t>(r) + 1] = static_cast<std::size_t>(next - programs.items.data());
  }
  return programs;
}

}  // namespace pipewright::inline v0
