// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/plan/channels.hpp>
#include <pipewright/plan/memory.hpp>
#include <pipewright/plan/orders.hpp>

namespace pipewright::inline v0 {

namespace detail {

/// Runs programs with zero buffering and symbolic contents, and stops at the first fault: a send completes only when its
/// receive is posted (or its receiver stands at a blocking receive), a wait only when its message was sent.
class prover {
 public:
  constexpr explicit prover(plan_view const& p)
      : plan_{p}, channels_{channels_of(p)}, stages_{p.stages()}, total_{p.facts.total_micro_batches()},
        interval_{p.update_interval()}, updates_{p.facts.total_micro_batches() / p.update_interval()},
        program_{p.programs}, at_(size(p.facts.ranks)), registered_(size(p.facts.ranks)), queue_(size(p.facts.ranks)),
        queued_(size(p.facts.ranks)), state_(size(stages_) * size(total_)), version_(size(stages_) * size(total_)),
        newest_(size(stages_)), finished_(size(stages_) * size(updates_)), exchanged_(p.wants.tied() ? size(stages_) * size(updates_) : 0),
        facts_(p.wants.step_facts ? size(p.facts.ranks) * size(updates_) : 0), verdicts_(facts_.size()), first_post_(size(channels_.count()) + 1),
        posted_(size(channels_.count())), sent_(size(channels_.count())), ring_first_(size(stages_) + 1) {
    for (int s = 0; s < stages_; ++s) {
      slot_depths const& d = p.slots[s];
      ring_first_[size(s) + 1] = ring_first_[size(s)] +
          size(d.input + d.saved + d.recomputed + d.last_saved + d.output + d.output_gradient + d.input_gradient + d.gradients);
    }
    owner_ = block<int>(ring_first_[size(stages_)]);
    for (int r = 0; r < p.facts.ranks; ++r)
      for (instruction const in : program_[r])
        if (is_post(in.what.what) || is_receive(in.what.what))
          if (int const c = in.what.stage < stages_ ? channels_.of(in.what) : -1; c >= 0) ++first_post_[size(c) + 1];
    for (int c = 0; c < channels_.count(); ++c) first_post_[size(c) + 1] += first_post_[size(c)];
    posts_ = block<action>(first_post_[size(channels_.count())]);
  }

  /// Runs programs to their end and judges what they leave behind.
  constexpr verdict run() {
    verdict const found = run_to_the_last();
    return found.ok() ? at_the_end() : found;
  }

  /// Runs programs to their end, which may be the middle of a stream.
  constexpr verdict run_to_the_last() {
    int const ranks = plan_.facts.ranks;
    for (int r = 0; r < ranks; ++r) wake(r);
    while (waiting_ > 0) {
      int const r = queue_[size(head_)];
      head_ = head_ + 1 == ranks ? 0 : head_ + 1;
      --waiting_;
      queued_[size(r)] = false;
      instruction const* const row = program_.begin_of(r);
      int const n = program_.length(r);
      int& at = at_[size(r)];
      for (; at < n; ++at) {
        outcome const o = step(r, row[at]);
        if (o == outcome::blocked) break;
        if (fault_ != rule::none) return {fault_, r, at, row[at].what};
      }
    }
    for (int r = 0; r < ranks; ++r)
      if (at_[size(r)] < program_.length(r)) return {rule::deadlock, r, at_[size(r)], program_.begin_of(r)[at_[size(r)]].what};
    return sound;
  }

  /// Whether all that the future depends on (what is done of each micro-batch, what slots hold, what is posted, which
  /// versions exist) is as it was in `earlier`, `micro_batches` and `updates` later. Both have run to the last.
  constexpr bool repeats(prover const& earlier, int micro_batches, int updates) const {
    auto later = [&](action a) { return make_action(a.what, a.stage, a.micro_batch + micro_batches); };
    for (int s = 0; s < stages_; ++s) {
      if (newest_[size(s)] != earlier.newest_[size(s)] + updates) return false;
      for (int m = 0; m + micro_batches < total_; ++m) {
        std::size_t const then = size(s) * size(total_) + size(m), now = then + size(micro_batches);
        std::uint32_t const seen = earlier.state_[then];
        if (state_[now] != seen) return false;
        if (seen & f_done && !(seen & w_done) && version_[now] != earlier.version_[then] + updates) return false;
      }
      for (int b = 0; b + updates < updates_; ++b)
        if (finished_[size(s) * size(updates_) + size(b + updates)] != earlier.finished_[size(s) * size(updates_) + size(b)]) return false;
      for (auto ring : rings) {
        int const depth = plan_.slots[s].*ring;
        int const by = ring == &slot_depths::gradients ? updates : ring == &slot_depths::last_saved ? micro_batches / plan_.facts.micro_batches : micro_batches;
        for (int index = 0; index < depth; ++index) {
          int const was = earlier.owner_[earlier.slot(ring, s, index)];
          if (owner_[slot(ring, s, (index + by) % depth)] != (was == 0 ? 0 : was + by)) return false;
        }
      }
    }
    for (int r = 0; r < plan_.facts.ranks; ++r)
      if (registered_[size(r)] || earlier.registered_[size(r)]) return false;
    auto recurs = [&](block<bool> const& now, block<bool> const& then) {
      for (std::size_t at = 0; at < now.size(); ++at)
        if (at % size(updates_) + size(updates) < size(updates_) && now[at + size(updates)] != then[at]) return false;
      return true;
    };
    if (!recurs(exchanged_, earlier.exchanged_) || !recurs(facts_, earlier.facts_) || !recurs(verdicts_, earlier.verdicts_)) return false;
    for (int c = 0; c < channels_.count(); ++c) {
      std::size_t const open = posted_[size(c)] - sent_[size(c)];
      if (open != earlier.posted_[size(c)] - earlier.sent_[size(c)]) return false;
      for (std::size_t k = 0; k < open; ++k)
        if (posts_[first_post_[size(c)] + sent_[size(c)] + k] != later(earlier.posts_[earlier.first_post_[size(c)] + earlier.sent_[size(c)] + k]))
          return false;
    }
    return true;
  }

 private:
  static constexpr int slot_depths::*const rings[] = {
      &slot_depths::input, &slot_depths::saved, &slot_depths::recomputed, &slot_depths::last_saved,
      &slot_depths::output, &slot_depths::output_gradient, &slot_depths::input_gradient, &slot_depths::gradients};
  enum class outcome : bool { done, blocked };
  enum bit : std::uint32_t {
    f_done = 1, i_done = 2, w_done = 4, r_done = 8,               // computed
    posted_f = 16, landed_f = 32, waited_f = 64, sent_f = 128,    // the input's way here, the output's way on
    posted_b = 256, landed_b = 512, waited_b = 1024, sent_b = 2048,
  };
  static constexpr std::size_t size(int n) { return static_cast<std::size_t>(n); }

  constexpr std::size_t by_update(int stage_or_rank, int batch) const { return size(stage_or_rank) * size(updates_) + size(batch); }

  constexpr void wake(int rank) {
    if (queued_[size(rank)]) return;
    queued_[size(rank)] = true;
    int const ranks = plan_.facts.ranks;
    int const back = head_ + waiting_ < ranks ? head_ + waiting_ : head_ + waiting_ - ranks;
    queue_[size(back)] = rank;
    ++waiting_;
  }

  constexpr std::uint32_t& state(int stage, int m) { return state_[size(stage) * size(total_) + size(m)]; }
  constexpr bool here(int stage, int rank) const { return plan_.rank_of_stage[stage] == rank; }
  constexpr outcome fail(rule broken) {
    fault_ = broken;
    return outcome::done;
  }

  constexpr outcome step(int r, instruction const in) {
    action const a = in.what;
    int const s = a.stage, m = a.micro_batch;
    if (s >= stages_ || m < 0 || m >= total_) return fail(rule::complete);
    if (is_transfer(a.what)) return a.what < kind::send_tied ? transfer(r, a) : exchange(r, a);
    if (!here(s, r)) return fail(rule::placement);
    if (a.what == kind::update) return update(r, in);
    if (!is_compute(a.what)) return outcome::done;
    return compute(r, in);
  }

  constexpr outcome compute(int r, instruction const in) {
    action const a = in.what;
    int const s = a.stage, m = a.micro_batch;
    std::uint32_t& seen = state(s, m);
    bool const last = s + 1 == stages_;
    if (a.what == kind::forward) {
      if (seen & f_done) return fail(rule::complete);
      if (s > 0 && !(here(s - 1, r) ? state(s - 1, m) & f_done : seen & waited_f)) return fail(rule::feasible);
      seen |= f_done;
      version_[size(s) * size(total_) + size(m)] = in.version;
      if (in.version != version_read(plan_.weights, plan_.facts, r, m)) return fail(rule::weights);
    } else if (a.what == kind::recompute) {
      if (!is_recomputed(plan_.wants.recompute, plan_.facts, m) || seen & r_done || !(seen & f_done) || seen & (i_done | w_done))
        return fail(rule::complete);
      seen |= r_done;
    } else {
      std::uint32_t const gives = a.what == kind::backward ? i_done | w_done : a.what == kind::backward_input ? i_done : w_done;
      if (plan_.backward == backward_form::none || !(seen & f_done) || seen & gives || (gives == w_done && !(seen & i_done)))
        return fail(rule::complete);
      if (is_recomputed(plan_.wants.recompute, plan_.facts, m) && !(seen & r_done)) return fail(rule::complete);
      if (gives & i_done && !last && !(here(s + 1, r) ? state(s + 1, m) & i_done : seen & waited_b)) return fail(rule::feasible);
      seen |= gives;
    }
    if (in.version != version_[size(s) * size(total_) + size(m)] || in.version > newest_[size(s)] ||
        in.version <= newest_[size(s)] - plan_.weight_buffers[r])
      return fail(rule::weights);
    if (gives_weight_gradient(a.what)) ++finished_[size(s) * size(updates_) + size(m / interval_)];
    return touch_slots(r, a);
  }

  constexpr outcome update(int r, instruction const in) {
    int const s = in.what.stage;
    int& newest = newest_[size(s)];
    int const batch = newest;
    if (batch >= updates_ || in.what.micro_batch != (batch + 1) * interval_ - 1) return fail(rule::weights);
    if (in.version != batch + 1 || finished_[size(s) * size(updates_) + size(batch)] != interval_) return fail(rule::weights);
    if (is_tied_apart(s) && !exchanged_[by_update(s, batch)]) return fail(rule::feasible);
    if (int const twin = twin_here(s); twin >= 0 && finished_[size(twin) * size(updates_) + size(batch)] != interval_) return fail(rule::feasible);
    if (plan_.wants.step_facts && !(here(0, r) ? root_knows_all(batch) : verdicts_[by_update(r, batch)])) return fail(rule::feasible);
    newest = in.version;
    return touch_slots(r, in.what);
  }

  /// Whether a stage shares a weight with a stage of another rank.
  constexpr bool is_tied_apart(int s) const {
    needs const wants = plan_.wants;
    return wants.tied() && (s == wants.tied_first || s == wants.tied_second) &&
        plan_.rank_of_stage[wants.tied_first] != plan_.rank_of_stage[wants.tied_second];
  }
  /// The stage on the same rank that a stage shares a weight with, or -1.
  constexpr int twin_here(int s) const {
    needs const wants = plan_.wants;
    if (!wants.tied() || plan_.rank_of_stage[wants.tied_first] != plan_.rank_of_stage[wants.tied_second]) return -1;
    return s == wants.tied_first ? wants.tied_second : s == wants.tied_second ? wants.tied_first : -1;
  }
  /// Whether a rank has done a batch's update, on one stage or (-1) on all of its stages.
  constexpr bool is_updated(int r, int stage, int batch) const {
    for (int s = 0; s < stages_; ++s)
      if ((stage < 0 ? here(s, r) : s == stage) && newest_[size(s)] <= batch) return false;
    return true;
  }
  /// Whether all of a rank's gradients of a batch are complete, a tied one with its twin's share where the rank's facts
  /// count it.
  constexpr bool facts_are_ready(int r, int batch) const {
    for (int s = 0; s < stages_; ++s)
      if (here(s, r) && (finished_[size(s) * size(updates_) + size(batch)] != interval_ ||
                         (is_tied_apart(s) && s == plan_.wants.tied_first && !exchanged_[by_update(s, batch)])))
        return false;
    return true;
  }
  constexpr bool root_knows_all(int batch) const {
    int const root = plan_.rank_of_stage[0];
    for (int other = 0; other < plan_.facts.ranks; ++other)
      if (other != root && !facts_[by_update(other, batch)]) return false;
    return facts_are_ready(root, batch);
  }

  /// SEND, RECV, POST and WAIT of activations and gradients.
  constexpr outcome transfer(int r, action const a) {
    int const s = a.stage, m = a.micro_batch;
    if (!here(s, r)) return fail(rule::placement);
    int const c = channels_.of(a);
    if (c < 0) return fail(rule::channels);
    bool const of_forward = traffic_of(a.what) == traffic::activation;
    std::uint32_t& seen = state(s, m);
    if (is_send(a.what)) {
      if (seen & (of_forward ? sent_f : sent_b)) return fail(rule::complete);
      if (!(seen & (of_forward ? f_done : i_done))) return fail(rule::feasible);
      if (!meet(c, a)) return outcome::blocked;
      if (fault_ != rule::none) return outcome::done;
      seen |= of_forward ? sent_f : sent_b;
      state(of_forward ? s + 1 : s - 1, m) |= of_forward ? landed_f : landed_b;
      wake(channels_.key(c).destination);
      return touch_slots(r, a);
    }
    std::uint32_t const posted = of_forward ? posted_f : posted_b, landed = of_forward ? landed_f : landed_b,
                        waited = of_forward ? waited_f : waited_b;
    bool const blocking = is_receive(a.what);
    if (is_post(a.what) || (blocking && !registered_[size(r)])) {
      if (seen & posted) return fail(rule::complete);
      seen |= posted;
      post(c, a);
      if (touch_slots(r, a); fault_ != rule::none) return outcome::done;
      registered_[size(r)] = blocking;
      if (!blocking) return outcome::done;
    }
    if (!(seen & posted)) return fail(rule::feasible);
    if (seen & waited) return fail(rule::complete);
    if (!(seen & landed)) return outcome::blocked;
    seen |= waited;
    registered_[size(r)] = false;
    return outcome::done;
  }

  constexpr bool is_first_of_its_rank(int s) const {
    for (int before = 0; before < s; ++before)
      if (plan_.rank_of_stage[before] == plan_.rank_of_stage[s]) return false;
    return true;
  }

  /// SEND, POST and WAIT between a batch's last backward and its update.
  constexpr outcome exchange(int r, action const a) {
    bool const tied = a.what <= kind::wait_tied, facts = !tied && a.what <= kind::wait_facts;
    int const s = a.stage;
    if (tied ? !is_tied_apart(s) || !here(s, r) : !plan_.wants.step_facts || !is_first_of_its_rank(s)) return fail(rule::placement);
    int const c = channels_.of(a);
    if (c < 0 || (a.micro_batch + 1) % interval_ != 0) return fail(rule::channels);
    channel_key const key = channels_.key(c);
    if (r != (is_send(a.what) ? key.source : key.destination)) return fail(rule::placement);
    int const batch = a.micro_batch / interval_;
    if (is_send(a.what)) {
      if (!(tied        ? finished_[size(s) * size(updates_) + size(batch)] == interval_
                : facts ? facts_are_ready(r, batch)
                        : root_knows_all(batch)))
        return fail(rule::feasible);
      if (!meet(c, a)) return outcome::blocked;
      wake(key.destination);
      return outcome::done;
    }
    if (is_post(a.what)) {
      // The exchange's slots are a ring of `window`, keyed by the update; one is free again after that update.
      int const window = exchange_window(plan_.weights, plan_.facts);
      if (batch >= window && !is_updated(r, tied ? s : -1, batch - window)) return fail(rule::memory);
      post(c, a);
      return outcome::done;
    }
    bool& done = tied ? exchanged_[by_update(s, batch)] : facts ? facts_[by_update(plan_.rank_of_stage[s], batch)] : verdicts_[by_update(r, batch)];
    if (done) return fail(rule::complete);
    if (!landed_on(c, a)) return outcome::blocked;
    if (fault_ != rule::none) return outcome::done;
    done = true;
    return outcome::done;
  }

  /// The receiver's view of a message.
  constexpr action received(action const a) const {
    switch (a.what) {
      case kind::send_forward: return make_action(kind::post_forward, a.stage + 1, a.micro_batch);
      case kind::send_backward: return make_action(kind::post_backward, a.stage - 1, a.micro_batch);
      case kind::send_tied:
        return make_action(kind::post_tied, a.stage == plan_.wants.tied_first ? plan_.wants.tied_second : plan_.wants.tied_first,
                           a.micro_batch);
      case kind::send_facts: return make_action(kind::post_facts, a.stage, a.micro_batch);
      default: return make_action(kind::post_verdict, a.stage, a.micro_batch);
    }
  }
  constexpr void post(int c, action a) {
    if (a.what == kind::receive_forward) a.what = kind::post_forward;
    if (a.what == kind::receive_backward) a.what = kind::post_backward;
    posts_[first_post_[size(c)] + posted_[size(c)]++] = a;
    wake(channels_.key(c).source);
  }
  /// Whether a send can complete now; a fault when the channel's next receive is for something else.
  constexpr bool meet(int c, action const a) {
    if (posted_[size(c)] == sent_[size(c)]) return false;
    if (posts_[first_post_[size(c)] + sent_[size(c)]] != received(a)) fail(rule::channels);
    else ++sent_[size(c)];
    return true;
  }
  /// Whether the message that a WAIT of the exchange is for has come.
  constexpr bool landed_on(int c, action a) {
    a.what = static_cast<kind>(static_cast<int>(a.what) - 1);  // its POST stands before WAIT in the enumeration
    std::size_t const first = first_post_[size(c)];
    for (std::size_t k = sent_[size(c)]; k < posted_[size(c)]; ++k)
      if (posts_[first + k] == a) return false;
    for (std::size_t k = sent_[size(c)]; k-- > 0;)
      if (posts_[first + k] == a) return true;
    fail(rule::feasible);  // waited for, never posted
    return true;
  }

  constexpr outcome touch_slots(int r, action const a) {
    for_each_lifetime(
        plan_, r, a,
        [&](int slot_depths::*ring, int s, int key) {
          int const depth = plan_.slots[s].*ring;
          if (depth <= 0) return void(fail(rule::memory));
          int& owner = owner_[slot(ring, s, key % depth)];
          if (owner != 0 && !(ring == &slot_depths::gradients && owner == key + 1)) return void(fail(rule::memory));
          owner = key + 1;
        },
        [&](int slot_depths::*ring, int s, int key) {
          int const depth = plan_.slots[s].*ring;
          if (depth <= 0) return void(fail(rule::memory));
          int& owner = owner_[slot(ring, s, key % depth)];
          if (owner != key + 1) return void(fail(rule::memory));
          owner = 0;
        });
    return outcome::done;
  }
  constexpr std::size_t slot(int slot_depths::*ring, int s, int index) const {
    std::size_t at = ring_first_[size(s)] + size(index);
    for (auto before : rings) {
      if (before == ring) break;
      at += size(plan_.slots[s].*before);
    }
    return at;
  }

  constexpr verdict at_the_end() {
    int const batches = plan_.backward == backward_form::none ? 0 : updates_;
    std::uint32_t const all = batches == 0 ? f_done : f_done | i_done | w_done;
    for (int s = 0; s < stages_; ++s) {
      int const r = plan_.rank_of_stage[s], end = program_.length(r);
      for (int m = 0; m < total_; ++m)
        if (std::uint32_t const seen = state(s, m); (seen & all) != all) {
          kind const missing = !(seen & f_done) ? kind::forward : seen & i_done ? kind::backward_weight : kind::backward;
          return {rule::complete, r, end, make_action(missing, s, m)};
        }
      if (newest_[size(s)] != batches) return {rule::weights, r, end, make_action(kind::update, s, (newest_[size(s)] + 1) * interval_ - 1)};
    }
    for (int c = 0; c < channels_.count(); ++c)
      if (posted_[size(c)] != sent_[size(c)])
        return {rule::channels, channels_.key(c).destination, program_.length(channels_.key(c).destination),
                posts_[first_post_[size(c)] + sent_[size(c)]]};
    return sound;
  }

  plan_view const& plan_;
  channel_table channels_;
  int stages_, total_, interval_, updates_;
  rows_view<instruction> program_;
  block<int> at_;
  block<bool> registered_;  // the rank stands at a blocking receive that the channel knows of
  block<int> queue_;        // ranks that may go on, a ring
  block<bool> queued_;
  int head_ = 0, waiting_ = 0;
  block<std::uint32_t> state_;  // by stage and micro-batch
  block<int> version_;          // that the forward read
  block<int> newest_;           // by stage, updates done
  block<int> finished_;         // by stage and batch, weight gradients done
  block<bool> exchanged_, facts_, verdicts_;  // by stage or rank, and batch: waited for
  block<std::size_t> first_post_, posted_, sent_;  // by channel
  block<action> posts_;
  block<std::size_t> ring_first_;
  block<int> owner_;  // by slot: what it holds, plus 1
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
