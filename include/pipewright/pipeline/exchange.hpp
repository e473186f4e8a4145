// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <concepts>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <pipewright/pipeline/cell.hpp>
#include <pipewright/pipeline/options.hpp>
#include <pipewright/pipeline/verdict_of_update.hpp>

namespace pipewright::inline v0::detail {

/// What is exchanged between a batch's last backward and its update: tied gradients, and the facts of a step. A norm is
/// summed per parameter, then in the model's order, so that it has the same bits on any number of ranks. (A template of the
/// one cell there is, so that only who has a pipeline compiles it.)
template<std::same_as<cell_base> Cell> class step_exchange_of {
 public:
  using values = std::vector<double>;

  step_exchange_of(plan_view const& plan, int rank, std::vector<std::unique_ptr<Cell>> const& cells,
                   pipeline_options const& options)
      : plan_{plan}, rank_{rank}, cells_{cells}, window_{exchange_window(plan.weights, plan.facts)} {
    needs const wants = plan.wants;
    if (wants.tied()) {
      if (options.tied.first.empty() || options.tied.second.empty())
        throw error("the plan ties stages " + std::to_string(wants.tied_first) + " and " +
                    std::to_string(wants.tied_second) + "; name the parameters in pipeline_options::tied");
      if (Cell* const c = cell_of(wants.tied_first)) first_ = &c->find(options.tied.first);
      if (Cell* const c = cell_of(wants.tied_second)) second_ = &c->find(options.tied.second);
      if (first_ && second_ && first_->size != second_->size)
        throw error("tied parameters " + first_->name + " and " + second_->name + " have different sizes");
      if (first_ && second_ && first_->on != second_->on)
        throw error("tied parameters " + first_->name + " and " + second_->name +
                    " lie in different places or have different element types, on one rank; make them alike, or cut "
                    "the model between their stages");
      parameter_record* const mine = first_ ? first_ : second_;
      if (mine && !(first_ && second_))
        for (int i = 0; i < window_; ++i) {
          tied_out_.push_back(mine->on->tie(mine->size));
          tied_in_.push_back(mine->on->tie(mine->size));
          ring_of(tied_sends, 0).slots.push_back({tied_out_.back()->slot()});
          ring_of(tied_posts, 0).slots.push_back({tied_in_.back()->slot()});
        }
    }
    if (!wants.step_facts) return;
    std::size_t size = 2;
    for (auto const& c : cells) size += 1 + c->parameters.size();
    mine_.reserve(size);
    std::size_t const peers = is_root() ? static_cast<std::size_t>(plan.facts.ranks) : 1;
    buffers_.resize(2 * peers * static_cast<std::size_t>(window_));
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      buffers_[i].reserve(is_root() ? 0 : size);
      bool const outgoing = i % 2 == 0;
      ring_of(outgoing == is_root() ? verdicts : facts, static_cast<int>(i / 2 % peers))
          .slots.push_back({message_of(buffers_[i])});
    }
    taken_ = block<std::size_t>(static_cast<std::size_t>(plan.facts.ranks));
  }

  /// The slot that a step-traffic instruction uses. `key` counts updates.
  slot_ring::slot& slot(action a) {
    int const key = a.micro_batch / plan_.update_interval();
    switch (a.what) {
      case kind::send_tied: return ring_of(tied_sends, 0).of(key);
      case kind::post_tied:
      case kind::wait_tied: return ring_of(tied_posts, 0).of(key);
      case kind::send_facts:
      case kind::post_facts:
      case kind::wait_facts: return ring_of(facts, peer(a)).of(key);
      default: return ring_of(verdicts, peer(a)).of(key);
    }
  }

  /// Fills what a send is about to take.
  void prepare(action a, double loss_weight) {
    int const update = a.micro_batch / plan_.update_interval();
    if (a.what == kind::send_tied) {
      parameter_record const& p = first_ ? *first_ : *second_;
      tied_out_[static_cast<std::size_t>(update % window_)]->load(
          p.gradients[static_cast<std::size_t>(gradient_slot(a.stage, update))], p.size);
    } else if (a.what == kind::send_facts) {
      gather(update, loss_weight, *static_cast<values*>(slot(a).value.object));
    } else if (a.what == kind::send_verdict) {
      conclude(update, loss_weight);
      static_cast<values*>(slot(a).value.object)
          ->assign({verdict_.norm, verdict_.weight, static_cast<double>(verdict_.bad_stage)});
    }
  }
  /// Takes what has been received.
  void take(action a) {
    int const update = a.micro_batch / plan_.update_interval();
    if (a.what == kind::wait_tied) {
      parameter_record const& p = first_ ? *first_ : *second_;
      tied_in_[static_cast<std::size_t>(update % window_)]->add_to(
          p.gradients[static_cast<std::size_t>(gradient_slot(a.stage, update))], p.size);
    } else if (a.what == kind::wait_verdict) {
      values const& v = *static_cast<values*>(slot(a).value.object);
      verdict_ = {v[0], v[1], static_cast<int>(v[2])};
      concluded_ = update + 1;
    }
  }

  /// The verdict on an update; on the rank of stage 0 it is made here, when all others' facts are there.
  update_verdict const& conclude(int update, double loss_weight) {
    if (concluded_ == update + 1) return verdict_;
    concluded_ = update + 1;
    sum_ties_here(update);
    if (!plan_.wants.step_facts) return verdict_;
    gather(update, loss_weight, mine_);
    for (std::size_t r = 0; r < taken_.size(); ++r) taken_[r] = 2;
    verdict_ = {};
    double squares = 0;
    auto const from = [&](int r) -> values const& {
      return r == rank_ ? mine_ : *static_cast<values*>(ring_of(facts, r).of(update).value.object);
    };
    for (int r = 0; r < plan_.facts.ranks; ++r) verdict_.weight += from(r)[0];
    for (int s = 0; s < plan_.stages(); ++s) {
      int const r = plan_.rank_of_stage[s];
      values const& their = from(r);
      std::size_t& at = taken_[static_cast<std::size_t>(r)];
      bool bad = false;
      for (int n = static_cast<int>(their[at++]); n > 0; --n) {
        bad = bad || !std::isfinite(their[at]);
        squares += their[at++];
      }
      if (bad && verdict_.bad_stage < 0) verdict_.bad_stage = s;
    }
    verdict_.norm = std::sqrt(squares);
    return verdict_;
  }

  /// Calls visit(ring) for each ring that is sent from.
  void for_each_send(auto&& visit) {
    for (slot_ring& ring : rings_[tied_sends]) visit(ring);
    for (slot_ring& ring : rings_[is_root() ? verdicts : facts]) visit(ring);
  }

  /// Before a new stream or step counts updates from 0 again.
  void restart() { concluded_ = summed_ = 0; }

  /// The rings into which ranks receive.
  void for_each_receive(auto&& visit) {
    for (which const w : {tied_posts, is_root() ? facts : verdicts})
      for (slot_ring& ring : rings_[w]) visit(ring);
  }

 private:
  enum which { tied_sends, tied_posts, facts, verdicts };
  bool is_root() const { return plan_.rank_of_stage[0] == rank_; }
  /// Only the rank of stage 0 has more than one peer.
  int peer(action a) const { return is_root() ? plan_.rank_of_stage[a.stage] : 0; }
  slot_ring& ring_of(which w, int peer) {
    auto& rings = rings_[w];
    if (rings.size() <= static_cast<std::size_t>(peer)) rings.resize(static_cast<std::size_t>(peer) + 1);
    return rings[static_cast<std::size_t>(peer)];
  }
  Cell* cell_of(int stage) const {
    for (auto const& c : cells_)
      if (c->stage == stage) return c.get();
    return nullptr;
  }
  int gradient_slot(int stage, int update) const { return update % plan_.slots[stage].gradients; }

  void sum_ties_here(int update) {
    if (!first_ || !second_ || summed_ == update + 1) return;
    summed_ = update + 1;
    first_->on->sum_both(first_->gradients[static_cast<std::size_t>(gradient_slot(plan_.wants.tied_first, update))],
                         second_->gradients[static_cast<std::size_t>(gradient_slot(plan_.wants.tied_second, update))],
                         first_->size);
  }
  /// This rank's facts: the losses' weight, then for each of its stages how many norms, and their squares; a tied weight
  /// counts at its first stage only.
  void gather(int update, double loss_weight, values& into) {
    sum_ties_here(update);
    into.assign({loss_weight, 0});
    for (auto const& c : cells_) {
      std::size_t const count = into.size();
      into.push_back(0);
      c->append_squares(gradient_slot(c->stage, update), second_, into);
      into[count] = static_cast<double>(into.size() - count - 1);
    }
  }

  plan_view plan_;
  int rank_;
  std::vector<std::unique_ptr<Cell>> const& cells_;
  int window_;
  parameter_record *first_ = nullptr, *second_ = nullptr;
  std::vector<std::unique_ptr<tied_gradient>> tied_out_, tied_in_;
  std::vector<values> buffers_;
  std::vector<slot_ring> rings_[4];
  values mine_;
  block<std::size_t> taken_;  // by rank
  update_verdict verdict_{};
  int concluded_ = 0;  // updates judged since restart
  int summed_ = 0;     // updates whose tie within this rank is summed
};
using step_exchange = step_exchange_of<cell_base>;

}  // namespace pipewright::inline v0::detail
