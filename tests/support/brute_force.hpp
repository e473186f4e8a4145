// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include <support/miscounted.hpp>
#include <support/serial_terms.hpp>

/// Runs all ranks' programs with symbolic values in real buffers and weight copies, and compares what comes out with
/// the serial recurrences. Plain and slow; it shares no idea with the library's verifier:
///  - nothing is buffered: a SEND stands until its receive is posted (or the peer stands at a RECV), a WAIT until its
///    message was sent;
///  - channels are first-in, first-out and know no names: the k-th message lands in the slot of the k-th post;
///  - from its post until its wait a slot may be written at any moment: whoever reads it then reads an unknown value;
///  - version v stands in weight copy v mod n and is gone once another version is written there.
namespace support {

class brute_force_run {
 public:
  explicit brute_force_run(program_set const& p) : p_{p} {}

  /// Nothing, or what is broken first and where.
  std::string judge() {
    try {
      if (auto const why = miscounted(p_); !why.empty()) throw fault{why};
      make_buffers();
      run();
      compare();
    } catch (fault const& f) {
      return f.what();
    }
    return {};
  }

  /// The most (micro-batch, chunk) pairs that a rank held between forward and the end of backward.
  std::vector<int> const& peak_in_flight() const { return peak_; }

 private:
  using kind = pipewright::kind;
  using instruction = pipewright::instruction;
  struct fault : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  [[noreturn]] void broken(std::string const& why) const {
    throw fault{"rank " + std::to_string(rank_) + " position " + std::to_string(next_[at(rank_)]) + " " +
                write_instruction(current_) + ": " + why};
  }
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }

  // ---- memory --------------------------------------------------------------------------------------------------------
  struct ring {
    std::vector<value> slots;
  };
  struct weight_copy {
    int version = -1;
    value is = 0;
  };
  struct gradient_slot {
    int batch = -1;
    std::vector<value> summands;
  };
  struct stage_memory {
    ring input, saved, recomputed, last_saved, output, output_gradient, input_gradient;
    std::vector<gradient_slot> gradients;
    std::vector<weight_copy> weights;
    int newest = 0;
    std::set<int> forward_done, input_gradient_done;
    ring tied_gradient;  ///< from the twin on another rank, by update
  };
  struct rank_memory {
    std::vector<ring> facts;  ///< at the rank of stage 0, by rank and update
    ring verdict;             ///< by update
    int in_flight = 0;
  };

  void make_buffers() {
    auto make = [&](int depth) { return ring{std::vector<value>(at(std::max(0, depth)), 0)}; };
    for (int s = 0; s < p_.stages(); ++s) {
      auto const& d = p_.slots[at(s)];
      stage_memory memory{make(d.input),
                          make(d.saved),
                          make(d.recomputed),
                          make(d.last_saved),
                          make(d.output),
                          make(d.output_gradient),
                          make(d.input_gradient),
                          {},
                          {},
                          0,
                          {},
                          {},
                          make(p_.exchange_slots)};
      memory.gradients.resize(at(std::max(0, d.gradients)));
      int const copies = p_.weight_buffers[at(p_.rank_of_stage[at(s)])];
      if (copies < 1) throw fault{"stage " + std::to_string(s) + " has no weights"};
      memory.weights.resize(at(copies));
      memory.weights[0] = {0, terms_.initial_weights(s)};
      stages_.push_back(std::move(memory));
    }
    ranks_.resize(at(p_.ranks()),
                  rank_memory{std::vector<ring>(at(p_.ranks()), make(p_.exchange_slots)), make(p_.exchange_slots), 0});
    next_.resize(at(p_.ranks()), 0);
    peak_.resize(at(p_.ranks()), 0);
    losses_.resize(at(p_.micro_batches()), 0);
  }
  value& slot(ring& r, int key) const {
    if (r.slots.empty()) broken("it has no buffer");
    return r.slots[at(key) % r.slots.size()];
  }
  using of_stage_and_micro_batch = bool (training_terms::*)(value, int, int) const;
  /// What stands in a slot, which must be what the reader's name says; from which weights and inputs shows at the end.
  value read(ring& r, int key, of_stage_and_micro_batch named, int s, int m) const {
    value const v = slot(r, key);
    if (v == 0 || !(terms_.*named)(v, s, m)) broken("it reads a slot that does not hold what it names");
    return v;
  }
  value input_of(int s, int m) { return read(stages_[at(s)].input, m, &training_terms::is_output, s - 1, m); }
  value saved_of(int s, int m) { return read(stages_[at(s)].saved, m, &training_terms::is_saved, s, m); }
  value weights_of(int s, int version) const {
    auto const& memory = stages_[at(s)];
    auto const& copy = memory.weights[at(std::max(0, version)) % memory.weights.size()];
    if (version < 0 || copy.version != version) broken("weight version " + std::to_string(version) + " is not there");
    return copy.is;
  }
  gradient_slot& gradients_of(int s, int batch) {
    auto& slots = stages_[at(s)].gradients;
    if (slots.empty()) broken("it has no gradient buffer");
    return slots[at(batch) % slots.size()];
  }
  value sum_of_gradients(int s, int batch) {
    auto const& g = gradients_of(s, batch);
    if (g.batch != batch) broken("the gradients of batch " + std::to_string(batch) + " are not there");
    return terms_.sum(g.summands);
  }
  int batch_of(int m) const { return m / p_.interval(); }
  bool is_tied(int s) const { return p_.wants.tied() && (s == p_.wants.tied_first || s == p_.wants.tied_second); }
  int twin_of(int s) const { return s == p_.wants.tied_first ? p_.wants.tied_second : p_.wants.tied_first; }
  bool twin_is_here(int s) const { return p_.rank_of_stage[at(twin_of(s))] == p_.rank_of_stage[at(s)]; }
  value exchanged(ring& r, int batch) {
    value const v = slot(r, batch);
    if (v == 0) broken("what others send before an update is not there");
    return v;
  }
  value tied_gradient_of(int s, int batch) {
    if (!is_tied(s)) return 0;
    if (twin_is_here(s)) return sum_of_gradients(twin_of(s), batch);
    return exchanged(stages_[at(s)].tied_gradient, batch);
  }
  value facts_of(int r, int batch) {
    std::vector<value> shares;
    for (int s = 0; s < p_.stages(); ++s)
      if (p_.rank_of_stage[at(s)] == r)
        shares.push_back(terms_.facts_of_stage(s, sum_of_gradients(s, batch),
                                               s == p_.wants.tied_first ? tied_gradient_of(s, batch) : 0));
    return terms_.facts_of_rank(shares);
  }

  // ---- channels --------------------------------------------------------------------------------------------------------
  struct post {
    value* slot;
    value unknown;  ///< what the slot holds until the wait
    kind family;    ///< the POST's kind
    int stage, micro_batch;
    bool arrived = false, waited_for = false;
    value message = 0;
  };
  struct channel {
    std::vector<post> posts;
    std::size_t sent = 0;
  };
  channel& channel_between(int from, int to, kind k) {
    if (from == to) broken("there is no channel within a rank");
    return channels_[{from, to, static_cast<int>(pipewright::traffic_of(k))}];
  }
  int root() const { return p_.rank_of_stage[0]; }
  int other_rank(kind k, int s) const {
    bool const up =
        k == kind::send_forward || k == kind::post_backward || k == kind::wait_backward || k == kind::receive_backward;
    bool const down =
        k == kind::send_backward || k == kind::post_forward || k == kind::wait_forward || k == kind::receive_forward;
    if (up || down) {
      int const neighbour = up ? s + 1 : s - 1;
      if (neighbour < 0 || neighbour >= p_.stages()) broken("there is no neighbour");
      return p_.rank_of_stage[at(neighbour)];
    }
    if (k == kind::send_tied || k == kind::post_tied || k == kind::wait_tied) {
      if (!is_tied(s)) broken("the stage is not tied");
      return p_.rank_of_stage[at(twin_of(s))];
    }
    if (!p_.wants.step_facts) broken("nobody asked for facts");
    bool const at_the_root = k == kind::post_facts || k == kind::wait_facts || k == kind::send_verdict;
    if (at_the_root && rank_ != root()) broken("facts gather elsewhere");
    return at_the_root ? p_.rank_of_stage[at(s)] : root();
  }
  value& landing_place(kind k, int s, int m) {
    switch (k) {
      case kind::post_forward: return slot(stages_[at(s)].input, m);
      case kind::post_backward: return slot(stages_[at(s)].output_gradient, m);
      case kind::post_tied: return slot(stages_[at(s)].tied_gradient, batch_of(m));
      case kind::post_facts: return slot(ranks_[at(rank_)].facts[at(p_.rank_of_stage[at(s)])], batch_of(m));
      default: return slot(ranks_[at(rank_)].verdict, batch_of(m));
    }
  }
  value verdict_at_the_root(int batch) {
    std::vector<value> facts;
    for (int r = 0; r < p_.ranks(); ++r)
      facts.push_back(r == root() ? facts_of(r, batch) : exchanged(ranks_[at(root())].facts[at(r)], batch));
    return terms_.verdict(facts);
  }
  value message_of(kind k, int s, int m) {
    switch (k) {
      case kind::send_forward: return read(stages_[at(s)].output, m, &training_terms::is_output, s, m);
      case kind::send_backward: return read(stages_[at(s)].input_gradient, m, &training_terms::is_input_gradient, s, m);
      case kind::send_tied: return sum_of_gradients(s, batch_of(m));
      case kind::send_facts: return facts_of(rank_, batch_of(m));
      default: return verdict_at_the_root(batch_of(m));
    }
  }
  void receive_from_now_on(kind family, int s, int m) {
    value& place = landing_place(family, s, m);
    place = terms_.unknown();
    channel_between(other_rank(family, s), rank_, family).posts.push_back({&place, place, family, s, m});
  }
  bool send(kind k, int s, int m) {
    channel& c = channel_between(rank_, other_rank(k, s), k);
    value const message = message_of(k, s, m);
    if (c.sent == c.posts.size()) return false;
    c.posts[c.sent].message = message;
    c.posts[c.sent++].arrived = true;
    return true;
  }
  bool wait(kind family, int s, int m) {
    for (post& p : channel_between(other_rank(family, s), rank_, family).posts) {
      if (p.waited_for || p.family != family || p.stage != s || p.micro_batch != m) continue;
      if (!p.arrived) return false;
      if (*p.slot != p.unknown) broken("something else was written where the message landed");
      *p.slot = p.message;
      p.waited_for = true;
      return true;
    }
    broken("it waits for what was not posted");
  }

  // ---- running ---------------------------------------------------------------------------------------------------------
  void forward(int s, int m, int version) {
    auto& here = stages_[at(s)];
    if (s == 0) slot(here.input, m) = terms_.input(m);
    value const w = weights_of(s, version), in = input_of(s, m);
    value const kept = terms_.saved(s, m, in, w), made = terms_.output(s, m, in, w);
    slot(here.saved, m) = kept;
    if (p_.trains() && p_.wants.recompute != pipewright::recompute_mode::never && !p_.runs_again(m))
      slot(here.last_saved, m / p_.facts.micro_batches) = terms_.activations(s, m, in, kept, w);
    if (s + 1 == p_.stages()) losses_[at(m)] = made;
    else if (p_.rank_of_stage[at(s) + 1] == rank_) slot(stages_[at(s) + 1].input, m) = made;
    else slot(here.output, m) = made;
    here.forward_done.insert(m);
    if (p_.trains()) peak_[at(rank_)] = std::max(peak_[at(rank_)], ++ranks_[at(rank_)].in_flight);
  }
  void recompute(int s, int m, int version) {
    auto& here = stages_[at(s)];
    slot(here.recomputed, m) = terms_.activations(s, m, input_of(s, m), saved_of(s, m), weights_of(s, version));
  }
  void backward(kind k, int s, int m, int version) {
    auto& here = stages_[at(s)];
    if (!here.forward_done.contains(m)) broken("its forward has not run");
    if (k == kind::backward_weight && !here.input_gradient_done.contains(m))
      broken("its input gradient has not been made");
    training_terms::backward_reads reads{weights_of(s, version), input_of(s, m), saved_of(s, m), 0, 0};
    if (p_.wants.recompute != pipewright::recompute_mode::never)
      reads.activations =
          p_.runs_again(m) ? read(here.recomputed, m, &training_terms::is_activations, s, m)
                           : read(here.last_saved, m / p_.facts.micro_batches, &training_terms::is_activations, s, m);
    if (s + 1 < p_.stages())
      reads.output_gradient = read(here.output_gradient, m, &training_terms::is_input_gradient, s + 1, m);
    if (k != kind::backward_weight) {
      here.input_gradient_done.insert(m);
      if (s > 0) {
        bool const neighbour_is_here = p_.rank_of_stage[at(s) - 1] == rank_;
        slot(neighbour_is_here ? stages_[at(s) - 1].output_gradient : here.input_gradient, m) =
            terms_.input_gradient(s, m, reads);
      }
    }
    if (k == kind::backward_input) return;
    gradient_slot& sum = gradients_of(s, batch_of(m));
    if (sum.batch > here.newest - 1 && sum.batch != batch_of(m))
      broken("gradients that no update has read are overwritten");
    if (sum.batch != batch_of(m)) sum = {batch_of(m), {}};
    sum.summands.push_back(terms_.weight_gradient(s, m, reads));
    --ranks_[at(rank_)].in_flight;
  }
  void update(int s, int m, int version) {
    auto& here = stages_[at(s)];
    value const verdict = !p_.wants.step_facts ? 0
                          : rank_ == root()    ? verdict_at_the_root(batch_of(m))
                                               : exchanged(ranks_[at(rank_)].verdict, batch_of(m));
    value const made = terms_.updated(s, weights_of(s, version - 1), sum_of_gradients(s, batch_of(m)),
                                      tied_gradient_of(s, batch_of(m)), verdict);
    here.weights[at(version) % here.weights.size()] = {version, made};
    here.newest = version;
  }
  bool advance(instruction i) {
    int const s = i.what.stage, m = i.what.micro_batch;
    switch (i.what.what) {
      case kind::forward: forward(s, m, i.version); return true;
      case kind::backward:
      case kind::backward_input:
      case kind::backward_weight: backward(i.what.what, s, m, i.version); return true;
      case kind::recompute: recompute(s, m, i.version); return true;
      case kind::update: update(s, m, i.version); return true;
      case kind::send_forward:
      case kind::send_backward:
      case kind::send_tied:
      case kind::send_facts:
      case kind::send_verdict: return send(i.what.what, s, m);
      case kind::post_forward:
      case kind::post_backward:
      case kind::post_tied:
      case kind::post_facts:
      case kind::post_verdict: receive_from_now_on(i.what.what, s, m); return true;
      case kind::wait_forward: return wait(kind::post_forward, s, m);
      case kind::wait_backward: return wait(kind::post_backward, s, m);
      case kind::wait_tied: return wait(kind::post_tied, s, m);
      case kind::wait_facts: return wait(kind::post_facts, s, m);
      case kind::wait_verdict: return wait(kind::post_verdict, s, m);
      case kind::receive_forward:
      case kind::receive_backward: {
        auto const family = i.what.what == kind::receive_forward ? kind::post_forward : kind::post_backward;
        if (stands_at_receive_.insert({rank_, next_[at(rank_)]}).second) receive_from_now_on(family, s, m);
        return wait(family, s, m);
      }
      default: broken("no such action");
    }
  }
  void run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (rank_ = 0; rank_ < p_.ranks(); ++rank_)
        for (auto const& row = p_.programs[at(rank_)]; next_[at(rank_)] < row.size();
             ++next_[at(rank_)], moved = true) {
          current_ = row[next_[at(rank_)]];
          if (!advance(current_)) break;
        }
    }
    for (rank_ = 0; rank_ < p_.ranks(); ++rank_)
      if (auto const& row = p_.programs[at(rank_)]; next_[at(rank_)] < row.size()) {
        current_ = row[next_[at(rank_)]];
        broken("it waits for ever");
      }
    for (auto const& [key, c] : channels_)
      for (auto const& p : c.posts)
        if (!p.waited_for)
          throw fault{"rank " + std::to_string(std::get<1>(key)) + " has posted a receive that nobody waits for"};
  }
  void compare() {
    auto const expected = run_serially(p_, terms_);
    for (int m = 0; m < p_.micro_batches(); ++m)
      if (losses_[at(m)] != expected.losses[at(m)])
        throw fault{"the loss of micro-batch " + std::to_string(m) + " is not the serial run's"};
    for (int s = 0; s < p_.stages(); ++s) {
      auto const& memory = stages_[at(s)];
      auto const& copy = memory.weights[at(p_.updates()) % memory.weights.size()];
      if (copy.version != p_.updates() || copy.is != expected.weights[at(s)].back())
        throw fault{"the weights of stage " + std::to_string(s) + " are not the serial run's"};
    }
  }

  program_set const& p_;
  training_terms terms_;
  std::vector<stage_memory> stages_;
  std::vector<rank_memory> ranks_;
  std::map<std::tuple<int, int, int>, channel> channels_;
  std::vector<std::size_t> next_;
  std::set<std::pair<int, std::size_t>> stands_at_receive_;
  std::vector<int> peak_;
  std::vector<value> losses_;
  int rank_ = 0;
  instruction current_{};
};

/// Empty if the programs train right with nothing buffered, else what is broken.
inline std::string brute_force(program_set const& p) { return brute_force_run{p}.judge(); }

}  // namespace support
