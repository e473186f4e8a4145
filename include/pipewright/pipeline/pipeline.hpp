// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <charconv>
#include <cmath>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/pipeline/cell.hpp>
#include <pipewright/pipeline/exchange.hpp>
#include <pipewright/pipeline/observer.hpp>
#include <pipewright/pipeline/options.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/stage/explain_needs.hpp>
#include <pipewright/stage/stage_set.hpp>
#include <pipewright/transport/explain.hpp>
#include <pipewright/transport/transport.hpp>

namespace pipewright::inline v0 {

/// What an advance() came to.
enum class progress : std::uint8_t {
  ran,      ///< one instruction is done
  blocked,  ///< the next one waits for a transfer
  done,     ///< nothing is left until the next batch
};

/// Bytes that a rank holds or has sent.
struct pipeline_bytes {
  std::size_t activations = 0;  ///< in all slots: what stages saved, inputs, outputs, gradients of boundaries
  std::size_t weights = 0;      ///< all versions
  std::size_t sent = 0;         ///< since the start
};

/// One rank of a pipeline: walks its program of a plan over its own stages, one instruction at a time. The schedule is a
/// value to it, so a constant plan and one from start-up run the same code.
///
/// A batch has `input(int micro_batch, Input&)`, asked on the rank of the first stage, and `target(int micro_batch, Target&)`,
/// on the rank of the loss; micro-batches count from 0 in each batch. Both overwrite what they are given.
///
/// The plan (its owner, for one from start-up), the endpoint and the observer outlive the pipeline. One thread runs it. All
/// ranks make the same calls in the same order. Errors of a stage, a transfer or a peer abort all ranks and say rank, stage,
/// micro-batch and action. A step allocates nothing of its own once slots and stages have their sizes.
template<stage_set Set, transport Transport, optimizer Optimizer, observer Observer = no_observer> class pipeline_of {
 public:
  /// Builds this rank's stages and their weights, opens its channels, and makes sure that all ranks mean the same. Throws
  /// error where plan, stages, endpoint and options do not fit together.
  pipeline_of(plan_view plan, Set const& set, Transport& here, Optimizer with, pipeline_options options, Observer& watched_by)
      : plan_{plan}, here_{here}, optimizer_{std::move(with)}, options_{std::move(options)}, observer_{watched_by}, rank_{here.rank()} {
    check(set);
    evaluation_ = make_plan<forward_only>({.ranks = plan.facts.ranks, .micro_batches = plan.facts.micro_batches, .chunks = plan.facts.chunks});
    cell_of_stage_.resize(static_cast<std::size_t>(plan.stages()));
    for (int s = 0; s < plan.stages(); ++s)
      if (plan.rank_of_stage[s] == rank_)
        set.visit(s, [&]<class S>(S&& made) { build(s, std::forward<S>(made)); });
    for (auto const& c : cells_) link(*c);
    exchange_ = std::make_unique<detail::step_exchange>(plan_, rank_, cells_, options_);
    copies_ = plan.weight_buffers[rank_];
    channels_ = std::make_unique<channel_table>(channels_of(plan_));
    handles_.assign(static_cast<std::size_t>(channels_->count()), -1);
    for (int c = 0; c < channels_->count(); ++c)
      if (channels_->key(c).source == rank_ || channels_->key(c).destination == rank_)
        handles_[static_cast<std::size_t>(c)] = here_.open(channels_->key(c));
    losses_.resize(static_cast<std::size_t>(plan.facts.micro_batches));
    weight_of_update_.resize(static_cast<std::size_t>(exchange_window(plan_.weights, plan_.facts)) + 1);
    deferred_.reserve(static_cast<std::size_t>(2 * plan.stages() + 4 * plan.facts.ranks));
    here_.agree(digest());
    if constexpr (requires { here_.locate(std::function<std::string()>()); }) here_.locate([this] { return place_of(now_); });
  }
  pipeline_of(pipeline_of const&) = delete;
  pipeline_of& operator=(pipeline_of const&) = delete;
  /// Waits for what it has sent, since slots go with it. A stream is to be drained first: where receives are still posted
  /// for micro-batches in flight, all ranks are aborted.
  ~pipeline_of() {
    if constexpr (requires { here_.locate(std::function<std::string()>()); }) here_.locate({});
    try {
      if (awaits_anything())
        here_.abort(std::string("a pipeline ended with micro-batches in flight, ") +
                    (std::uncaught_exceptions() > 0 ? "because of an exception" : "call drain() first"));
      else settle_sends();
    } catch (std::exception const&) {  // aborted, or past the deadline: nobody reads the slots any more
    }
  }

  /// Trains on a batch of M micro-batches: a synchronous schedule runs it to the end and updates; an asynchronous one admits
  /// it and does what can be done before the next.
  step_result step(auto&& batch) {
    begin(batch);
    finish();
    return result();
  }

  /// Ends an asynchronous stream: runs all that was admitted to its last update. Nothing to do for a synchronous schedule.
  void drain() {
    if (!plan_.is_stream() || admitted_ == 0) return;
    draining_ = true;
    running_ = &plan_;
    finish();
    settle_sends();
    base_ += updated_in_plan_;
    admitted_ = updated_in_plan_ = 0;
    at_ = 0;
    draining_ = false;
    deferred_.clear();
    late_ = -1;
    exchange_->restart();
  }

  /// The loss of a batch under the newest weights, which stay as they are; drains first. Throws error
  /// where the schedule has another placement than the loop.
  step_result evaluate(auto&& batch) {
    plan_view const evaluated = evaluation_.view();
    for (int s = 0; s < plan_.stages(); ++s)
      if (plan_.rank_of_stage[s] != evaluated.rank_of_stage[s])
        throw error("evaluation runs over stages in loop placement, stage s on rank s mod P, but schedule " + std::string(plan_.schedule) + " places stage " +
                    std::to_string(s) + " on rank " + std::to_string(plan_.rank_of_stage[s]) + "; evaluate with a pipeline of its own");
    drain();
    attach(batch);
    running_ = &evaluated;
    at_ = 0;
    finish();
    running_ = &plan_;
    at_ = 0;
    return result();
  }

  /// The two halves of step(), for a thread that drives several ranks: begin(batch), then advance() until it is done; the
  /// batch stays alive until then.
  void begin(auto&& batch) {
    attach(batch);
    running_ = &plan_;
    if (plan_.is_stream()) admitted_ += plan_.facts.micro_batches;
    else at_ = 0;
    ++step_;
  }

  /// Runs this rank's next instruction, if it need not wait.
  progress advance() {
    instruction next;
    if (!fetch(next)) return progress::done;
    now_ = next.what;
    try {
      if (!begun_) observer_.before({rank_, next});
      begun_ = true;
      if (detail::slot_ring::slot* const slot = needed(next.what)) {
        if (!here_.poll(slot->transfer)) {
          here_.progress();
          waited_for_ = slot->transfer;
          return progress::blocked;
        }
        slot->pending = false;
      }
      execute(next);
      observer_.after({rank_, next});
      begun_ = false;
      if (late_ < 0) ++at_;
      else deferred_.erase(deferred_.begin() + late_);
      return progress::ran;
    } catch (std::exception const& e) {
      fail(next.what, e.what());
    } catch (...) {
      fail(next.what, "it threw what is no std::exception");
    }
  }

  /// What the last step or evaluation has told this rank.
  step_result result() const {
    step_result r{.step = step_ - 1, .has_loss = false, .loss = 0, .gradient_norm = norm_, .updates = applied_};
    if (cells_.empty() || !cells_.back()->has_loss) return r;
    r.has_loss = true;
    double sum = 0, weight = 0;
    for (loss const& l : losses_) {
      sum += l.value;
      weight += l.weight;
    }
    r.loss = options_.scale == loss_scale::mean ? sum / static_cast<double>(losses_.size()) : options_.scale == loss_scale::sum ? sum : sum / weight;
    return r;
  }

  /// The losses of the last step's or evaluation's micro-batches, on the rank of the loss stage.
  std::span<loss const> micro_batch_losses() const { return losses_; }

  /// Calls visit(stage, name, span of values, options) for the newest weights of this rank's stages, ascending; the values
  /// may be changed, to load a checkpoint. Between steps; asynchronous streams are drained first.
  template<class T = float> void for_each_parameter(auto&& visit) {
    int const newest = physical(0);
    for (auto const& c : cells_)
      for (detail::parameter_record& p : c->parameters) {
        T* const values = static_cast<T*>(p.versions[static_cast<std::size_t>(newest)]);
        visit(c->stage, std::string_view(p.name), std::span<T>(values, p.size), p.options);
      }
  }

  plan_view const& plan() const { return plan_; }
  int rank() const { return rank_; }

  pipeline_bytes bytes() const {
    pipeline_bytes b{.activations = 0, .weights = 0, .sent = sent_};
    for (auto const& c : cells_) {
      b.weights += c->weight_bytes();
      b.activations += c->saved_bytes();
      for (detail::slot_ring const* ring : {&c->input, &c->output, &c->output_gradient, &c->input_gradient})
        for (auto const& slot : ring->slots)
          if (slot.value.type != nullptr) b.activations += slot.value.type->bytes(slot.value.object);
    }
    return b;
  }

 private:
  void check(Set const& set) const {
    auto const n = [](auto v) { return std::to_string(v); };
    shape const f = plan_.facts;
    if (here_.size() != f.ranks)
      throw error("the plan has " + n(f.ranks) + " ranks, but the transport joins " + n(here_.size()) + "; make the plan for as many ranks as run");
    if (set.size() != plan_.stages())
      throw error("schedule " + std::string(plan_.schedule) + " with " + n(f.ranks) + " ranks and " + n(f.chunks) + " chunks runs " + n(plan_.stages()) +
                  " stages, but the model is cut into " + n(set.size()) + "; cut it into " + n(plan_.stages()));
    if (plan_.backward == backward_form::none) return;
    if (options_.needs_step_facts() != plan_.wants.step_facts)
      throw error(plan_.wants.step_facts
                      ? "the plan exchanges step facts that no option asks for; make it without needs::step_facts, or set clip, non_finite or per_token"
                      : "clipping over the model, a non-finite check over the model and per-token scale need facts of all ranks; make the plan with needs{.step_facts = true}"
                        ", or clip over each stage");
    if (plan_.wants.tied() && options_.clip_over == clip_scope::stage && (options_.clip > 0 || options_.non_finite != on_non_finite::ignore))
      throw error("clipping or checking each stage by itself would update the two ends of a tied weight differently; let clip_over be the model, or copy the weight");
    if (options_.accumulate < 1) throw error("accumulate counts steps between updates and is at least 1, not " + n(options_.accumulate));
    if (options_.accumulate > 1 && plan_.is_stream())
      throw error("an asynchronous schedule does not accumulate over steps, since its versions count updates; give a step more micro-batches instead");
    if (plan_.weights != weight_rule::synchronous && !plan_.is_stream())
      throw error("a pipeline trains with a stream, but this plan of an asynchronous schedule ends; make it with make_plan");
  }

  std::string digest() const {
    std::string text = "pipewright " + std::string(plan_.schedule);
    shape const f = plan_.facts;
    needs const w = plan_.wants;
    for (long long v : {static_cast<long long>(f.ranks), static_cast<long long>(f.micro_batches), static_cast<long long>(f.chunks), static_cast<long long>(f.group),
                        static_cast<long long>(w.recompute), static_cast<long long>(w.step_facts), static_cast<long long>(w.tied_first), static_cast<long long>(w.tied_second),
                        static_cast<long long>(options_.seed), static_cast<long long>(options_.scale), static_cast<long long>(options_.clip_over),
                        static_cast<long long>(options_.non_finite), static_cast<long long>(options_.accumulate)})
      text += " " + std::to_string(v);
    std::array<char, 32> clip{};  // its shortest text that is it exactly
    std::to_chars(clip.data(), clip.data() + clip.size() - 1, options_.clip);
    return text + " clip " + clip.data() + " tied " + options_.tied.first + "=" + options_.tied.second;
  }

  template<class S> void build(int index, S&& made) {
    using stage_type = std::remove_cvref_t<S>;
    if (index + 1 == plan_.stages()) {
      if constexpr (!loss_stage<stage_type>)
        if (plan_.backward != backward_form::none)
          throw error("stage " + std::to_string(index) + ", the last, is no loss stage; training ends in one (forward(context, weights, input, target, saved) -> loss)");
    }
    recompute_mode const mode = recompute_mode_of<stage_type>();
    if (plan_.backward != backward_form::none && mode != recompute_mode::never && mode != plan_.wants.recompute)
      throw error("stage " + std::to_string(index) + " is marked to be recomputed, but the plan has no such action; make the plan with needs{.recompute = ...} of the same mode");
    if (plan_.backward == backward_form::split && !split_backward_stage<stage_type>)
      throw error("schedule " + std::string(plan_.schedule) + " runs the halves of backward apart, but stage " + std::to_string(index) +
                  " has no backward_input and backward_weight; add them or choose a schedule with a full backward");
    cells_.push_back(std::make_unique<detail::cell<stage_type, Optimizer>>(std::forward<S>(made), index, plan_, evaluation_.view(), rank_, options_.seed));
    cell_of_stage_[static_cast<std::size_t>(index)] = cells_.back().get();
  }

  /// Joins neighbours on one rank; makes sure that what travels has parts.
  void link(detail::cell_base& c) {
    int const last = plan_.stages() - 1;
    if (c.stage < last) {
      c.next_here = cell_of_stage_[static_cast<std::size_t>(c.stage) + 1];
      if (c.next_here) c.next_here->previous_here = &c;
    }
    for (detail::slot_ring const* ring : {&c.output, c.stage > 0 && plan_.rank_of_stage[c.stage - 1] != rank_ ? &c.input_gradient : &c.output})
      if (!ring->slots.empty() && ring->slots.front().value.type == nullptr)
        throw error("stage " + std::to_string(c.stage) + " hands another rank a value of a type that does not say what it is made of; give the type a member for_each_part(visit)");
  }

  template<class Batch> void attach(Batch& batch) {
    if constexpr (explain_batch<Batch, Set>()) {
      batch_ = const_cast<std::remove_const_t<Batch>*>(&batch);
      ask_input_ = [](void* b, int m, void* slot) { static_cast<Batch*>(b)->input(m, *static_cast<typename Set::input*>(slot)); };
      ask_target_ = [](void* b, int m, void* slot) {
        if constexpr (requires { typename Set::last::target; }) static_cast<Batch*>(b)->target(m, *static_cast<typename Set::last::target*>(slot));
      };
    }
  }

  /// The next instruction that may be run; false where nothing is left for now. A stream stops at the first micro-batch
  /// that is not admitted, but for receives that would be posted for one: those are put off. Draining, it passes such by.
  bool fetch(instruction& next) {
    if (!running_->is_stream()) {
      if (at_ == running_->programs.length(rank_)) return false;
      next = running_->programs.begin_of(rank_)[at_];
      if (!due() && next.what.what >= kind::send_tied && next.what.what <= kind::update) {
        ++at_;
        return fetch(next);
      }
      return true;
    }
    if (!draining_ && find_late(next)) return true;
    for (;; ++at_) {
      if (draining_ && updated_in_plan_ * plan_.update_interval() == admitted_) return false;
      next = running_->at(rank_, at_);
      if (next.what.micro_batch < admitted_) return true;
      if (draining_) continue;
      if (!is_post(next.what.what)) return false;
      deferred_.push_back(next.what);
    }
  }
  /// A receive put off whose micro-batch is admitted by now.
  bool find_late(instruction& next) {
    late_ = -1;
    for (std::size_t i = 0; i < deferred_.size() && late_ < 0; ++i)
      if (deferred_[i].micro_batch < admitted_) {
        late_ = static_cast<int>(i);
        next = {deferred_[i], 0};
      }
    return late_ >= 0;
  }

  /// Whether a synchronous step ends in an update.
  bool due() const { return step_ % options_.accumulate == 0; }

  void finish() {
    for (;;) switch (advance()) {
        case progress::ran: break;
        case progress::done: return;
        case progress::blocked:
          try {
            here_.wait(waited_for_);
          } catch (std::exception const& e) {
            fail(now_, e.what());
          }
      }
  }

  detail::cell_base& cell_at(int stage) { return *cell_of_stage_[static_cast<std::size_t>(stage)]; }
  int handle(action a) const { return handles_[static_cast<std::size_t>(channels_->of(a))]; }

  /// The slot that a transfer uses.
  detail::slot_ring::slot& slot_of(action a) {
    if (traffic_of(a.what) >= traffic::tied_gradient) return exchange_->slot(a);
    detail::cell_base& c = cell_at(a.stage);
    if (traffic_of(a.what) == traffic::activation) return (is_send(a.what) ? c.output : c.input).of(a.micro_batch);
    return (is_send(a.what) ? c.input_gradient : c.output_gradient).of(a.micro_batch);
  }

  /// The slot whose transfer must be complete first, or null.
  detail::slot_ring::slot* needed(action a) {
    detail::slot_ring::slot* slot = nullptr;
    if (is_transfer(a.what)) slot = &slot_of(a);
    else if (a.what == kind::forward && !cell_at(a.stage).output.slots.empty()) slot = &cell_at(a.stage).output.of(a.micro_batch);
    else if (gives_input_gradient(a.what) && !cell_at(a.stage).input_gradient.slots.empty())
      slot = &cell_at(a.stage).input_gradient.of(a.micro_batch);
    return slot != nullptr && slot->pending ? slot : nullptr;
  }
  /// Whether a receive is posted into a slot and not there yet.
  bool awaits_anything() {
    bool result = false;
    auto const look = [&](detail::slot_ring& ring) {
      for (auto& slot : ring.slots) result = result || (slot.pending && !here_.poll(slot.transfer));
    };
    for (auto const& c : cells_) {
      look(c->input);
      look(c->output_gradient);
    }
    exchange_->for_each_receive(look);
    return result;
  }
  void settle_sends() {
    auto const settle = [&](detail::slot_ring& ring) {
      for (auto& slot : ring.slots) {
        if (slot.pending) here_.wait(slot.transfer);
        slot.pending = false;
      }
    };
    for (auto const& c : cells_) {
      settle(c->output);
      settle(c->input_gradient);
    }
    if (exchange_) exchange_->for_each_send(settle);
  }
  void post(action a) {
    detail::slot_ring::slot& slot = slot_of(a);
    slot.transfer = here_.post(handle(a), slot.value);
    slot.pending = true;
  }

  void execute(instruction const in) {
    action const a = in.what;
    if (is_post(a.what)) return post(a);
    if (is_send(a.what)) {
      if (traffic_of(a.what) >= traffic::tied_gradient) exchange_->prepare(a, loss_weight(a));
      detail::slot_ring::slot& slot = slot_of(a);
      sent_ += slot.value.type->bytes(slot.value.object);
      slot.transfer = here_.send(handle(a), slot.value);
      slot.pending = true;
      return;
    }
    if (is_wait(a.what)) {
      if (traffic_of(a.what) >= traffic::tied_gradient) exchange_->take(a);
      return;
    }
    if (a.what == kind::update) return update(in);
    compute(in);
  }

  void compute(instruction const in) {
    action const a = in.what;
    int const m = a.micro_batch, in_batch = m % plan_.facts.micro_batches;
    detail::cell_base& c = cell_at(a.stage);
    // A stream's rank runs behind: its micro-batches belong to the batch they were admitted with.
    std::int64_t const batches_ago = running_->is_stream() ? (admitted_ - 1) / plan_.facts.micro_batches - m / plan_.facts.micro_batches : 0;
    bool const training = running_ == &plan_ && plan_.backward != backward_form::none;
    stage_context context{.rank = rank_, .stage = a.stage, .layer = c.first_layer, .micro_batch = in_batch, .step = step_ - 1 - batches_ago,
                          .training = training, .seed = options_.seed};
    auto const address = [&](detail::slot_ring& ring) { return ring.slots.empty() ? nullptr : ring.of(m).value.object; };
    detail::work w{&context, m, physical(in.version), 0, address(c.input), nullptr, nullptr, address(c.output_gradient), nullptr};
    if (a.what == kind::forward || a.what == kind::recompute) {
      if (c.stage == 0 && a.what == kind::forward) ask_input_(batch_, in_batch, address(c.input));
      if (c.has_loss) {
        w.target = address(c.target);
        if (a.what == kind::forward) ask_target_(batch_, in_batch, c.target.of(m).value.object);
      }
      if (a.what == kind::recompute) return c.recompute(w);
      w.output = c.next_here ? address(c.next_here->input) : address(c.output);
      loss const l = c.forward(w);
      if (!c.has_loss) return;
      losses_[static_cast<std::size_t>(in_batch)] = l;
      c.losses[static_cast<std::size_t>(m) % c.losses.size()] = l;
      return;
    }
    w.input_gradient = c.previous_here ? address(c.previous_here->output_gradient) : address(c.input_gradient);
    int const update_index = m / plan_.update_interval();
    w.gradients = update_index % c.depths.gradients;
    if (a.what == kind::backward) c.backward(w);
    else if (a.what == kind::backward_input) c.backward_input(w);
    else c.backward_weight(w);
    if (c.has_loss && gives_input_gradient(a.what))
      weight_of_update_[static_cast<std::size_t>(update_index) % weight_of_update_.size()] += c.losses[static_cast<std::size_t>(m) % c.losses.size()].weight;
  }

  double& loss_weight(action a) {
    return weight_of_update_[static_cast<std::size_t>(a.micro_batch / plan_.update_interval()) % weight_of_update_.size()];
  }

  void update(instruction const in) {
    action const a = in.what;
    detail::cell_base& c = cell_at(a.stage);
    int const index = a.micro_batch / plan_.update_interval(), gradient = index % c.depths.gradients;
    detail::update_verdict verdict = exchange_->conclude(index, loss_weight(a));
    double scale = options_.scale == loss_scale::mean ? 1.0 / (static_cast<double>(plan_.update_interval()) * options_.accumulate)
        : options_.scale == loss_scale::sum         ? 1.0
                                                    : 1.0 / verdict.weight;
    if (options_.clip_over == clip_scope::stage && (options_.clip > 0 || options_.non_finite != on_non_finite::ignore)) {
      double squares = 0;
      for (detail::parameter_record const& p : c.parameters) squares += p.on->squares(p.gradients[static_cast<std::size_t>(gradient)], p.size);
      verdict.norm = std::sqrt(squares);
      verdict.bad_stage = std::isfinite(squares) ? -1 : c.stage;
    }
    norm_ = verdict.norm * scale;
    if (options_.clip > 0) scale *= std::min(1.0, options_.clip / (norm_ + 1e-6));
    bool const finite = options_.non_finite == on_non_finite::ignore || verdict.bad_stage < 0;
    if (!finite && options_.non_finite == on_non_finite::stop)
      throw error("the gradient of stage " + std::to_string(verdict.bad_stage) + " is not finite; no weights have changed by this update");
    int const newest = physical(in.version - 1), fresh = physical(in.version);
    if (finite) c.update(&optimizer_, {.number = ++c.applied, .gradient_scale = scale}, newest, fresh, gradient);
    else c.keep(newest, fresh);
    c.clear_gradients(gradient);
    if (&c != cells_.back().get()) return;  // the rank's last stage ends the update
    applied_ += finite;
    loss_weight(a) = 0;
    if (plan_.is_stream()) {
      ++updated_in_plan_;
    } else {
      ++base_;
      exchange_->restart();
    }
  }

  /// The physical copy of a version that counts from the start of the plan.
  int physical(int version) const { return static_cast<int>((base_ + version) % copies_); }

  std::string place_of(action a) const {
    return "rank " + std::to_string(rank_) + ", stage " + std::to_string(a.stage) + ", micro-batch " + std::to_string(a.micro_batch) +
        ", action " + std::string(action_text(a).view());
  }
  [[noreturn]] void fail(action a, std::string const& why) {
    std::string text = place_of(a) + ":";
    if (why.starts_with(text)) text = why;  // the transport has said so itself
    else text += " " + why;
    here_.abort(text);
    throw error(text);
  }

  plan_view plan_;
  Transport& here_;
  Optimizer optimizer_;
  pipeline_options options_;
  Observer& observer_;
  int rank_;
  dynamic_plan evaluation_;
  std::vector<std::unique_ptr<detail::cell_base>> cells_;  // ascending stages
  std::vector<detail::cell_base*> cell_of_stage_;
  std::unique_ptr<detail::step_exchange> exchange_;
  std::unique_ptr<channel_table> channels_;
  std::vector<int> handles_;  // by channel of the plan
  int copies_ = 1;            // of weights

  plan_view const* running_ = &plan_;
  long long at_ = 0;                // the next instruction
  bool begun_ = false;              // the observer has heard of it
  action now_{};                    // what the rank is at, for errors
  ticket waited_for_{};
  int admitted_ = 0;                // micro-batches of a stream
  int updated_in_plan_ = 0;         // updates of a stream
  bool draining_ = false;
  std::vector<action> deferred_;    // receives to be posted when their micro-batch is admitted
  int late_ = -1;                   // which of them is the next instruction, or -1
  std::int64_t base_ = 0;           // updates before this plan's version 0
  std::int64_t step_ = 0;           // steps begun
  std::int64_t applied_ = 0;        // updates that changed the weights
  double norm_ = 0;
  std::size_t sent_ = 0;
  std::vector<loss> losses_;
  std::vector<double> weight_of_update_;

  void* batch_ = nullptr;
  void (*ask_input_)(void*, int, void*) = nullptr;
  void (*ask_target_)(void*, int, void*) = nullptr;
};

namespace detail {
inline no_observer nobody;
}

/// Makes a rank's pipeline: `auto training = pw::pipeline(plan, stages, here, pw::sgd{.rate = 0.1});`. `stages` is a stage set
/// or a Hana tuple of stages.
template<class Stages, class Transport, class Optimizer, class Observer = no_observer>
auto pipeline(plan_view plan, Stages stages, Transport& here, Optimizer with, pipeline_options options = {}, Observer& watched_by = detail::nobody) {
  static_assert(optimizer<Optimizer>, "pipewright: an optimizer has static states and update(optimizer_step, parameter_options, newest, gradient, fresh, states); "
                                      "take sgd or adam, or write those two");
  static_assert(observer<Observer>, "pipewright: an observer has before(event) and after(event); take recorder, or write those two");
  auto const set = as_stage_set(std::move(stages));
  if constexpr (explain_transport<Transport>() && optimizer<Optimizer> && observer<Observer>)
    return pipeline_of<std::remove_const_t<decltype(set)>, Transport, Optimizer, Observer>(plan, set, here, std::move(with), std::move(options), watched_by);
}

}  // namespace pipewright::inline v0
