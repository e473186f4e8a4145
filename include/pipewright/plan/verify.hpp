// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/plan/channel_lines.hpp>
#include <pipewright/plan/orders.hpp>
#include <pipewright/plan/slot_owners.hpp>
#include <pipewright/plan/update_ledger.hpp>

namespace pipewright::inline v0 {

namespace detail {

/// Runs programs with zero buffering and symbolic contents, and stops at the first fault: a send completes only when its
/// receive is posted (or its receiver stands at a blocking receive), a wait only when its message was sent.
/// Compilers bound the length of a constant evaluation, hence few calls and plain pointers in each instruction's way.
class prover {
 public:
  constexpr explicit prover(plan_view const& p)
      : plan_{p},
        channels_{channels_of(p)},
        rank_of_{p.rank_of_stage},
        stages_{p.stages()},
        is_synchronous_{p.weights == weight_rule::synchronous},
        recomputes_{p.wants.recompute != recompute_mode::never},
        total_{p.facts.total_micro_batches()},
        interval_{p.update_interval()},
        program_{p.programs},
        places_(size(p.facts.ranks)),
        rank_{places_.data()},
        queues_(size(p.facts.ranks)),
        queue_{queues_.data()},
        histories_(size(stages_) * size(total_)),
        history_{histories_.data()},
        done_{p},
        finished_at_{done_.finished_by_stage()},
        newest_at_{done_.newest_by_stage()},
        lines_{p, channels_, done_.updates()},
        lives_{p},
        slots_{p} {}

  /// Runs programs to their end and judges what they leave behind.
  constexpr verdict run() {
    verdict const found = run_to_the_last();
    return found.ok() ? at_the_end() : found;
  }

  /// Runs programs to their end, which may be the middle of a stream.
  constexpr verdict run_to_the_last() {
    int const ranks = plan_.facts.ranks;
    for (int r = 0; r < ranks; ++r) queue_[waiting_++] = r;
    while (waiting_ > 0) {
      int const r = queue_[head_];
      head_ = head_ + 1 == ranks ? 0 : head_ + 1;
      --waiting_;
      instruction const* const row = program_.begin_of(r);
      int at = rank_[r].at;
      for (int const n = program_.length(r); at < n; ++at) {
        outcome const came = step(r, row[at]);
        if (came == outcome::blocked) break;
        if (came == outcome::broken) return {fault_, r, at, row[at].what};
      }
      rank_[r].at = at;
    }
    for (int r = 0; r < ranks; ++r)
      if (int const at = rank_[r].at; at < program_.length(r))
        return {rule::deadlock, r, at, program_.begin_of(r)[at].what};
    return sound;
  }

  /// Whether all that the future depends on (what is done of each micro-batch, what slots hold, what is posted, which
  /// versions exist) is as it was in `earlier`, `micro_batches` and `updates` later. Both have run to the last.
  constexpr bool repeats(prover const& earlier, int micro_batches, int updates) const {
    for (int s = 0; s < stages_; ++s) {
      for (int m = 0; m + micro_batches < total_; ++m) {
        history const& then = earlier.history_[by_micro_batch(s, m)];
        history const& now = history_[by_micro_batch(s, m + micro_batches)];
        if (now.seen != then.seen) return false;
        if (then.seen & f_done && !(then.seen & w_done) && now.version != then.version + updates) return false;
      }
    }
    if (!slots_.repeats(earlier.slots_, micro_batches, micro_batches / plan_.facts.micro_batches, updates))
      return false;
    for (int r = 0; r < plan_.facts.ranks; ++r)
      if (rank_[r].registered || earlier.rank_[r].registered) return false;
    return done_.repeats(earlier.done_, updates) && lines_.repeats(earlier.lines_, micro_batches);
  }

 private:
  enum class outcome : char { done, blocked, broken };
  enum bit : std::uint32_t {
    f_done = 1,
    i_done = 2,
    w_done = 4,
    r_done = 8,  // computed
    posted_f = 16,
    landed_f = 32,
    waited_f = 64,
    sent_f = 128,     // the input's way here, the output's way on
    waited_b = 1024,  // and the gradients', four bits higher
  };
  struct place {
    int at = 0;               // of the rank in its program
    int blocked_on = -1;      // the channel that it waits for, if any
    bool registered = false;  // it stands at a blocking receive that the channel knows of
  };
  /// What a stage has seen of a micro-batch.
  struct history {
    std::uint32_t seen;
    int version;  // that the forward read
  };
  static constexpr std::size_t size(int n) { return static_cast<std::size_t>(n); }

  constexpr std::size_t by_micro_batch(int stage, int m) const { return static_cast<std::size_t>(stage) * total_ + m; }

  /// Lets a rank go on that waits for something on a channel.
  constexpr void wake(int rank, int channel) {
    if (rank_[rank].blocked_on != channel) return;
    rank_[rank].blocked_on = -1;
    int const ranks = plan_.facts.ranks;
    queue_[head_ + waiting_ < ranks ? head_ + waiting_ : head_ + waiting_ - ranks] = rank;
    ++waiting_;
  }
  constexpr outcome block_on(int rank, int channel) {
    rank_[rank].blocked_on = channel;
    return outcome::blocked;
  }

  constexpr outcome fail(rule broken) {
    fault_ = broken;
    return outcome::broken;
  }
  constexpr outcome touch_slots(int r, kind what, int s, int m) {
    lives_.visit(r, what, s, m, slots_);
    return slots_.broken ? fail(rule::memory) : outcome::done;
  }

  /// From here on an instruction comes as its parts: scalars at hand cost a constant evaluation least.
  constexpr outcome step(int r, instruction const& i) {
    action const& a = i.what;
    kind const what = a.what;
    int const s = a.stage, m = a.micro_batch;
    if (s >= stages_ || m < 0 || m >= total_) return fail(rule::complete);
    history* const mine = history_ + (static_cast<std::size_t>(s) * total_ + m);
    if (what <= kind::wait_backward) {
      if (rank_of_[s] != r) return fail(rule::placement);
      if (what <= kind::recompute) return compute(r, what, s, m, i.version, mine);
      if (what < kind::send_backward) return transfer(r, what, 0, s, m, mine);
      return transfer(r, what, 4, s, m, mine);
    }
    if (what <= kind::wait_verdict) return exchange(r, a);
    if (rank_of_[s] != r) return fail(rule::placement);
    return what == kind::update ? update(r, s, m, i.version) : outcome::done;
  }

  constexpr outcome compute(int r, kind what, int s, int m, int version, history* mine) {
    std::uint32_t& seen = mine->seen;
    bool const again = recomputes_ && is_recomputed(plan_.wants.recompute, plan_.facts, m);
    if (what == kind::forward) {
      if (seen & f_done) return fail(rule::complete);
      if (s > 0 && !(rank_of_[s - 1] == r ? (mine - total_)->seen & f_done : seen & waited_f))
        return fail(rule::feasible);
      seen |= f_done;
      mine->version = version;
      if (version != (is_synchronous_ ? 0 : version_read(plan_.weights, plan_.facts, r, m))) return fail(rule::weights);
    } else if (what == kind::recompute) {
      if (!again || seen & r_done || !(seen & f_done) || seen & (i_done | w_done)) return fail(rule::complete);
      seen |= r_done;
    } else {
      std::uint32_t const gives = what == kind::backward         ? i_done | w_done
                                  : what == kind::backward_input ? i_done
                                                                 : w_done;
      if (plan_.backward == backward_form::none || !(seen & f_done) || seen & gives ||
          (gives == w_done && !(seen & i_done)) || (again && !(seen & r_done)))
        return fail(rule::complete);
      if (gives & i_done && s + 1 < stages_ &&
          !(rank_of_[s + 1] == r ? (mine + total_)->seen & i_done : seen & waited_b))
        return fail(rule::feasible);
      seen |= gives;
      if (gives & w_done) ++finished_at_[static_cast<std::size_t>(s) * done_.updates() + m / interval_];
    }
    int const newest = newest_at_[s];
    if (version != mine->version || version > newest || version <= newest - plan_.weight_buffers[r])
      return fail(rule::weights);
    return touch_slots(r, what, s, m);
  }

  constexpr outcome update(int r, int s, int m, int version) {
    int const batch = newest_at_[s];
    if (batch >= done_.updates() || m != (batch + 1) * interval_ - 1) return fail(rule::weights);
    if (version != batch + 1 || !done_.is_finished(s, batch)) return fail(rule::weights);
    if (!done_.may_update(r, s, batch)) return fail(rule::feasible);
    newest_at_[s] = version;
    return touch_slots(r, kind::update, s, m);
  }

  /// SEND, RECV, POST and WAIT of activations and, where `way` is 4, of gradients: their bits are four higher.
  constexpr outcome transfer(int r, kind what, int way, int s, int m, history* mine) {
    std::uint32_t& seen = mine->seen;
    if (what == kind::send_forward || what == kind::send_backward) {
      int const to = way == 0 ? s + 1 : s - 1, c = channel_into(to, way);
      if (c < 0) return fail(rule::channels);
      if (seen & sent_f << way) return fail(rule::complete);
      if (!(seen & (way == 0 ? f_done : i_done))) return fail(rule::feasible);
      channel_lines::met const found = lines_.send(c, to, m);
      if (found == channel_lines::met::nobody) return block_on(r, c);
      if (found == channel_lines::met::another) return fail(rule::channels);
      seen |= sent_f << way;
      (way == 0 ? mine + total_ : mine - total_)->seen |= landed_f << way;
      wake(rank_of_[to], c);
      return touch_slots(r, what, s, m);
    }
    if (what == kind::post_forward || what == kind::post_backward) return post(r, what, way, s, m, seen);
    if ((what == kind::receive_forward || what == kind::receive_backward) && !rank_[r].registered) {
      outcome const came = post(r, static_cast<kind>(static_cast<int>(kind::post_forward) + way), way, s, m, seen);
      if (came != outcome::done) return came;
      rank_[r].registered = true;
    }
    if (seen & waited_f << way) return fail(rule::complete);
    if (seen & landed_f << way) {
      seen |= waited_f << way;
      rank_[r].registered = false;
      return outcome::done;
    }
    int const c = channel_into(s, way);
    return c < 0 ? fail(rule::channels) : seen & posted_f << way ? block_on(r, c) : fail(rule::feasible);
  }

  constexpr outcome post(int r, kind what, int way, int s, int m, std::uint32_t& seen) {
    int const c = channel_into(s, way);
    if (c < 0) return fail(rule::channels);
    if (seen & posted_f << way) return fail(rule::complete);
    seen |= posted_f << way;
    lines_.post(c, {what, false, static_cast<std::uint16_t>(s), m});  // no more often than there are bits to set
    wake(lines_.of(c).source, c);
    return touch_slots(r, what, s, m);
  }

  constexpr int channel_into(int stage, int way) const {
    return channels_.into(stage, way == 0 ? traffic::activation : traffic::gradient);
  }

  constexpr bool is_first_of_its_rank(int s) const {
    for (int before = 0; before < s; ++before)
      if (plan_.rank_of_stage[before] == plan_.rank_of_stage[s]) return false;
    return true;
  }

  /// SEND, POST and WAIT between a batch's last backward and its update.
  constexpr outcome exchange(int r, action const& a) {
    bool const tied = a.what <= kind::wait_tied, facts = !tied && a.what <= kind::wait_facts;
    int const s = a.stage;
    if (tied ? !done_.is_tied_apart(s) || rank_of_[s] != r : !plan_.wants.step_facts || !is_first_of_its_rank(s))
      return fail(rule::placement);
    int const c = channels_.of(a);
    if (c < 0 || (a.micro_batch + 1) % interval_ != 0) return fail(rule::channels);
    channel_key const key = channels_.key(c);
    if (r != (is_send(a.what) ? key.source : key.destination)) return fail(rule::placement);
    int const batch = a.micro_batch / interval_;
    if (is_send(a.what)) {
      if (!(tied ? done_.is_finished(s, batch) : facts ? done_.facts_are_ready(r, batch) : done_.root_knows_all(batch)))
        return fail(rule::feasible);
      needs const wants = plan_.wants;
      channel_lines::met const found = lines_.send(c,
                                                   !tied                   ? s
                                                   : s == wants.tied_first ? wants.tied_second
                                                                           : wants.tied_first,
                                                   a.micro_batch);
      if (found == channel_lines::met::nobody) return block_on(r, c);
      if (found == channel_lines::met::another) return fail(rule::channels);
      wake(key.destination, c);
      if (!tied && !facts) ++done_.verdicts_sent(batch);
      return outcome::done;
    }
    if (is_post(a.what)) {
      // The exchange's slots are a ring of `window`, keyed by the update; one is free again after that update, and one of
      // facts after the last verdict that is drawn from them.
      int const freed = batch - exchange_window(plan_.weights, plan_.facts);
      if (freed >= 0 && !done_.is_updated(r, tied ? s : -1, freed)) return fail(rule::memory);
      if (freed >= 0 && facts && done_.verdicts_sent(freed) != plan_.facts.ranks - 1) return fail(rule::memory);
      if (!lines_.post(c, a)) return fail(rule::channels);  // twice for one update
      wake(key.source, c);
      return outcome::done;
    }
    bool& done = tied    ? done_.has_twin(s, batch)
                 : facts ? done_.has_facts(rank_of_[s], batch)
                         : done_.has_verdict(r, batch);
    if (done) return fail(rule::complete);
    channel_lines::met const found = lines_.landed(c, a);
    if (found == channel_lines::met::nobody) return block_on(r, c);
    if (found == channel_lines::met::another) return fail(rule::feasible);  // it was never posted
    done = true;
    return outcome::done;
  }

  constexpr verdict at_the_end() {
    int const batches = plan_.backward == backward_form::none ? 0 : done_.updates();
    std::uint32_t const all = batches == 0 ? f_done : f_done | i_done | w_done;
    for (int s = 0; s < stages_; ++s) {
      int const r = plan_.rank_of_stage[s], end = program_.length(r);
      for (int m = 0; m < total_; ++m)
        if (std::uint32_t const seen = history_[by_micro_batch(s, m)].seen; (seen & all) != all) {
          kind const missing = !(seen & f_done) ? kind::forward
                               : seen & i_done  ? kind::backward_weight
                                                : kind::backward;
          return {rule::complete, r, end, make_action(missing, s, m)};
        }
      if (newest_at_[s] != batches)
        return {rule::weights, r, end, make_action(kind::update, s, (newest_at_[s] + 1) * interval_ - 1)};
    }
    if (int const c = lines_.left_open(); c >= 0) {
      channel_lines::line const& l = lines_.of(c);
      return {rule::channels, l.destination, program_.length(l.destination), l.posts[l.sent]};
    }
    return sound;
  }

  plan_view const& plan_;
  channel_table channels_;
  int const* rank_of_;
  int stages_;
  bool is_synchronous_, recomputes_;
  int total_, interval_;
  rows_view<instruction> program_;
  block<place> places_;  // by rank
  place* rank_;
  block<int> queues_;  // ranks that may go on, a ring
  int* queue_;
  int head_ = 0, waiting_ = 0;
  block<history> histories_;  // by stage and micro-batch
  history* history_;
  update_ledger done_;
  int *finished_at_, *newest_at_;  // of it
  channel_lines lines_;
  lifetimes lives_;
  slot_owners slots_;
  rule fault_ = rule::none;
};

}  // namespace detail

/// Proves a plan that ends (or judges a table): all six rules, by running its programs with zero buffering. The first
/// fault found, with rule, rank, position and action; `sound` if there is none. Time and memory linear in the actions.
constexpr verdict verify(plan_view const& p) { return detail::prover(p).run(); }

/// The same, against a stated limit of micro-batches times chunks in flight on any rank.
constexpr verdict verify(plan_view const& p, int in_flight_limit) {
  for (int r = 0; r < p.facts.ranks; ++r) {
    int held = 0;
    for (int at = 0; at < p.programs.length(r); ++at) {
      action const a = p.programs.begin_of(r)[at].what;
      if (a.what == kind::forward && ++held > in_flight_limit) return {rule::memory, r, at, a};
      if (gives_weight_gradient(a.what)) --held;
    }
  }
  return verify(p);
}

}  // namespace pipewright::inline v0
