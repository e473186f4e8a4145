// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/pipeline/agreement.hpp>
#include <pipewright/pipeline/batch_source.hpp>
#include <pipewright/pipeline/bytes.hpp>
#include <pipewright/pipeline/cell.hpp>
#include <pipewright/pipeline/cursor.hpp>
#include <pipewright/pipeline/exchange.hpp>
#include <pipewright/pipeline/observer.hpp>
#include <pipewright/pipeline/options.hpp>
#include <pipewright/pipeline/transfers.hpp>
#include <pipewright/pipeline/verdict_of_update.hpp>
#include <pipewright/plan/evaluation.hpp>
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
  pipeline_of(plan_view plan, Set const& set, Transport& here, Optimizer with, pipeline_options options,
              Observer& watched_by)
      : plan_{plan},
        here_{here},
        optimizer_{std::move(with)},
        options_{std::move(options)},
        observer_{watched_by},
        rank_{here.rank()},
        evaluation_{checked(set)},
        training_{plan_, rank_},
        evaluating_{evaluation_.view(), rank_} {
    cell_of_stage_.resize(static_cast<std::size_t>(plan.stages()));
    for (int s = 0; s < plan.stages(); ++s)
      if (plan.rank_of_stage[s] == rank_) set.visit(s, [&]<class S>(S&& made) { build(s, std::forward<S>(made)); });
    for (auto const& c : cells_) link(*c);
    exchange_ = std::make_unique<detail::step_exchange>(plan_, rank_, cells_, options_);
    copies_ = plan.weight_buffers[rank_];
    transfers_.emplace(plan_, here_, cell_of_stage_, *exchange_);
    losses_.resize(static_cast<std::size_t>(plan.facts.micro_batches));
    weight_of_update_.resize(static_cast<std::size_t>(exchange_window(plan_.weights, plan_.facts)) + 1);
    here_.agree(detail::digest_of(plan_, options_));
    if constexpr (requires { here_.locate(std::function<std::string()>()); })
      here_.locate([this] { return place_of(now_); });
  }
  pipeline_of(pipeline_of const&) = delete;
  pipeline_of& operator=(pipeline_of const&) = delete;
  /// Waits for what it has sent, since slots go with it. A stream is to be drained first: where receives are still posted
  /// for micro-batches in flight, all ranks are aborted.
  ~pipeline_of() {
    if constexpr (requires { here_.locate(std::function<std::string()>()); }) here_.locate({});
    try {
      if (transfers_->awaits_anything())
        here_.abort(std::string("a pipeline ended with micro-batches in flight, ") +
                    (std::uncaught_exceptions() > 0 ? "because of an exception" : "call drain() first"));
      else transfers_->settle_sends();
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
    if (!training_.is_under_way()) return;
    training_.drain();
    finish();
    transfers_->settle_sends();
    base_ += training_.updated();
    training_.restart();
    exchange_->restart();
  }

  /// The loss of a batch under the newest weights, which stay as they are; drains first.
  step_result evaluate(auto&& batch) {
    drain();
    batch_ = detail::batch_source<Set>(batch);
    evaluating_.begin(false);
    cursor_ = &evaluating_;
    finish();
    cursor_ = &training_;
    return result();
  }

  /// The two halves of step(), for a thread that drives several ranks: begin(batch), then advance() until it is done; the
  /// batch stays alive until then.
  void begin(auto&& batch) {
    batch_ = detail::batch_source<Set>(batch);
    training_.begin(++step_ % options_.accumulate == 0);
  }

  /// Runs this rank's next instruction, if it need not wait.
  progress advance() {
    instruction next;
    bool const runs = cursor_->fetch(next);
    if (runs) now_ = next.what;
    try {
      if (!runs) {
        for (loss& l : losses_) l.settle();
        note_work(true);  // the caller's own
        return progress::done;
      }
      if (!begun_) observer_.before({rank_, next});
      begun_ = true;
      if (ticket const* const transfer = transfers_->blocking(next.what)) {
        here_.progress();
        waited_for_ = *transfer;
        return progress::blocked;
      }
      execute(next);
      observer_.after({rank_, next});
      begun_ = false;
      cursor_->advance();
      return progress::ran;
    } catch (std::exception const& e) {
      fail(now_, e.what());
    } catch (...) {
      fail(now_, "it threw what is no std::exception");
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
    r.loss = options_.scale == loss_scale::mean  ? sum / static_cast<double>(losses_.size())
             : options_.scale == loss_scale::sum ? sum
                                                 : sum / weight;
    return r;
  }

  /// The losses of the last step's or evaluation's micro-batches, on the rank of the loss stage.
  std::span<loss const> micro_batch_losses() const { return {losses_.data(), losses_.size()}; }

  /// Calls visit(stage, name, span of values, options) for the newest weights of this rank's stages, ascending; the values
  /// may be changed, to load a checkpoint. Between steps; asynchronous streams are drained first.
  template<class T = float> void for_each_parameter(auto&& visit) {
    int const newest = physical(0);
    for (auto const& c : cells_)
      for (detail::parameter_record& p : c->parameters)
        p.on_host<T, 0>(newest, [&](auto const& all) { visit(c->stage, std::string_view(p.name), all[0], p.options); });
  }

  /// The same with what the optimizer keeps of each: visit(stage, name, values, options, states), the states an array of
  /// Optimizer::states spans as long as the values. Together with steps() and updates() this is all that a training is
  /// between steps: no other weight version is read after a drain. Throws error where a stream is not drained.
  template<class T = float> void for_each_state(auto&& visit) {
    static_assert(explain_saving<Optimizer>());
    check_drained();
    int const newest = physical(0);
    for (auto const& c : cells_)
      for (detail::parameter_record& p : c->parameters)
        p.on_host<T, Optimizer::states>(newest, [&](auto const& all) {
          std::array<std::span<T>, Optimizer::states> states;
          std::copy(all.begin() + 1, all.end(), states.begin());
          visit(c->stage, std::string_view(p.name), all[0], p.options, states);
        });
  }
  /// Steps since the start of training, those before a resume() included.
  std::int64_t steps() const { return step_; }
  /// Updates that have changed the weights of a stage, which is one of this rank's.
  std::int64_t updates(int stage) const { return cell_of_stage_[static_cast<std::size_t>(stage)]->applied; }
  /// Goes on from a checkpoint, whose values for_each_state() has been given: after `steps` steps, and
  /// `updates_of(stage)` updates of each of this rank's stages. Batches and random numbers follow on the number of steps.
  /// All ranks, and the plan may be another than the one that was saved under. Throws error where a stream is not drained,
  /// or the steps end between two updates.
  void resume(std::int64_t steps, auto&& updates_of) {
    check_drained();
    if (steps < 0 || steps % options_.accumulate != 0)
      throw error("training cannot go on after " + std::to_string(steps) + " steps, with an update every " +
                  std::to_string(options_.accumulate) + "; save and resume after an update");
    step_ = steps;
    for (auto const& c : cells_) applied_ = c->applied = updates_of(c->stage);
  }

  plan_view const& plan() const { return plan_; }
  int rank() const { return rank_; }

  /// Bytes that this rank has sent since the start.
  std::size_t bytes_sent() const { return transfers_->sent(); }
  /// What this rank holds between steps. Waits until what it has sent has left its slots. Throws error unless a stream is
  /// drained: what is posted for its micro-batches in flight may land at any time.
  pipeline_bytes bytes() {
    pipeline_bytes all;
    for (auto const& c : cells_) all += bytes(c->stage);
    return all;
  }
  /// The same of one of this rank's stages.
  pipeline_bytes bytes(int stage) {
    if (training_.is_under_way())
      throw error(
          "micro-batches are in flight, whose slots change at any time; call drain() before asking for bytes()");
    if (stage < 0 || stage >= plan_.stages() || plan_.rank_of_stage[stage] != rank_)
      throw error("stage " + std::to_string(stage) + " is not one of those of rank " + std::to_string(rank_) +
                  ", so that it does not know its bytes");
    transfers_->settle_sends();
    return cell_at(stage).bytes();
  }

 private:
  /// What this pipeline evaluates with, once all is known to fit together.
  dynamic_plan checked(Set const& set) const {
    detail::check_fit(plan_, options_, here_.size(), set.size());
    return make_evaluation_plan(plan_);
  }

  void check_drained() const {
    if (training_.is_under_way())
      throw error("micro-batches are in flight, and with them older weights; call drain() before saving or resuming");
  }

  template<class S> void build(int index, S&& made) {
    using stage_type = std::remove_cvref_t<S>;
    detail::check_stage(made, plan_, index);
    cells_.push_back(std::make_unique<detail::cell<stage_type, Optimizer>>(std::forward<S>(made), index, plan_,
                                                                           evaluation_.view(), rank_, options_.seed));
    cell_of_stage_[static_cast<std::size_t>(index)] = cells_.back().get();
  }

  /// Joins neighbours on one rank; makes sure that what travels has parts.
  void link(detail::cell_base& c) {
    int const last = plan_.stages() - 1;
    if (c.stage < last) {
      c.next_here = cell_of_stage_[static_cast<std::size_t>(c.stage) + 1];
      if (c.next_here) c.next_here->previous_here = &c;
    }
    for (detail::slot_ring const* ring :
         {&c.output, c.stage > 0 && plan_.rank_of_stage[c.stage - 1] != rank_ ? &c.input_gradient : &c.output})
      if (!ring->slots.empty() && ring->slots.front().value.type == nullptr)
        throw error("stage " + std::to_string(c.stage) +
                    " hands another rank a value of a type that does not say what it is made of; give the type a "
                    "member for_each_part(visit)");
  }

  void finish() {
    note_work(false);
    for (;;) switch (advance()) {
        case progress::ran: break;
        case progress::done: return;
        case progress::blocked: await();
      }
  }
  void await() {
    try {
      here_.wait(waited_for_);
    } catch (std::exception const& e) {
      fail(now_, e.what());
    }
  }

  detail::cell_base& cell_at(int stage) { return *cell_of_stage_[static_cast<std::size_t>(stage)]; }

  void execute(instruction const in) {
    action const a = in.what;
    if (is_post(a.what)) return transfers_->post(a);
    if (is_send(a.what)) {
      if (traffic_of(a.what) >= traffic::tied_gradient) exchange_->prepare(a, loss_weight(a));
      return transfers_->send(a);
    }
    if (is_wait(a.what)) {
      if (traffic_of(a.what) >= traffic::tied_gradient) exchange_->take(a);
      return;
    }
    note_work(true);
    if (a.what == kind::update) update(in);
    else compute(in);
    note_work(false);
  }
  void note_work(bool begins) noexcept {
    if constexpr (requires { here_.computing(begins); }) here_.computing(begins);
  }

  void compute(instruction const in) {
    action const a = in.what;
    int const m = a.micro_batch, in_batch = m % plan_.facts.micro_batches;
    detail::cell_base& c = cell_at(a.stage);
    bool const training = cursor_ == &training_ && plan_.backward != backward_form::none;
    stage_context context{.rank = rank_,
                          .stage = a.stage,
                          .layer = c.first_layer,
                          .micro_batch = in_batch,
                          .step = step_ - 1 - cursor_->batches_since(m),
                          .training = training,
                          .seed = options_.seed};
    auto const address = [&](detail::slot_ring& ring) {
      return ring.slots.empty() ? nullptr : ring.of(m).value.object;
    };
    detail::work w{&context, m,       physical(in.version),       0,      address(c.input),
                   nullptr,  nullptr, address(c.output_gradient), nullptr};
    if (a.what == kind::forward || a.what == kind::recompute) {
      if (c.stage == 0 && a.what == kind::forward) batch_.input(in_batch, address(c.input));
      if (c.has_loss) {
        w.target = address(c.target);
        if (a.what == kind::forward) batch_.target(in_batch, c.target.of(m).value.object);
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
      weight_of_update_[static_cast<std::size_t>(update_index) % weight_of_update_.size()] +=
          c.losses[static_cast<std::size_t>(m) % c.losses.size()].weight;
  }

  double& loss_weight(action a) {
    return weight_of_update_[static_cast<std::size_t>(a.micro_batch / plan_.update_interval()) %
                             weight_of_update_.size()];
  }

  void update(instruction const in) {
    action const a = in.what;
    detail::cell_base& c = cell_at(a.stage);
    int const index = a.micro_batch / plan_.update_interval(), gradient = index % c.depths.gradients;
    detail::update_verdict verdict = exchange_->conclude(index, loss_weight(a));
    if (detail::judges_by_stage(options_)) {
      squares_.clear();
      c.append_squares(gradient, nullptr, squares_);
      double squares = 0;
      for (double const each : squares_) squares += each;
      verdict.norm = std::sqrt(squares);
      verdict.bad_stage = std::isfinite(squares) ? -1 : c.stage;
    }
    auto const [scale, norm, finite] = detail::judge(options_, verdict, plan_.update_interval());
    norm_ = norm;
    int const newest = physical(in.version - 1), fresh = physical(in.version);
    if (finite) c.update(&optimizer_, {.number = ++c.applied, .gradient_scale = scale}, newest, fresh, gradient);
    else c.keep(newest, fresh);
    c.clear_gradients(gradient);
    if (&c != cells_.back().get()) return;  // the rank's last stage ends the update
    applied_ += finite;
    loss_weight(a) = 0;
    training_.note_update();
    if (plan_.is_stream()) return;
    ++base_;
    exchange_->restart();
  }

  /// The physical copy of a version that counts from the start of the plan.
  int physical(int version) const { return static_cast<int>((base_ + version) % copies_); }

  std::string place_of(action a) const {
    return "rank " + std::to_string(rank_) + ", stage " + std::to_string(a.stage) + ", micro-batch " +
           std::to_string(a.micro_batch) + ", action " + std::string(action_text(a).view());
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
  detail::program_cursor training_, evaluating_;
  detail::program_cursor* cursor_ = &training_;
  std::vector<std::unique_ptr<detail::cell_base>> cells_;  // ascending stages
  std::vector<detail::cell_base*> cell_of_stage_;
  std::unique_ptr<detail::step_exchange> exchange_;
  std::optional<detail::rank_transfers<Transport>> transfers_;
  int copies_ = 1;  // of weights

  bool begun_ = false;  // the observer has heard of it
  action now_{};        // what the rank is at, for errors
  ticket waited_for_{};
  std::int64_t base_ = 0;     // updates before this plan's version 0
  std::int64_t step_ = 0;     // steps begun
  std::int64_t applied_ = 0;  // updates that changed the weights
  double norm_ = 0;
  std::vector<loss> losses_;
  std::vector<double> weight_of_update_;
  std::vector<double> squares_;  // of the parameters of a stage

  detail::batch_source<Set> batch_;
};

namespace detail {
inline no_observer nobody;
}

/// Makes a rank's pipeline: `auto training = pw::pipeline(plan, stages, here, pw::sgd{.rate = 0.1});`. `stages` is a stage set
/// or a Hana tuple of stages.
template<class Stages, class Transport, class Optimizer, class Observer = no_observer>
auto pipeline(plan_view plan, Stages stages, Transport& here, Optimizer with, pipeline_options options = {},
              Observer& watched_by = detail::nobody) {
  static_assert(optimizer<Optimizer>,
                "pipewright: an optimizer has static states and update(optimizer_step, parameter_options, newest, "
                "gradient, fresh, states); "
                "take sgd or adam, or write those two");
  static_assert(observer<Observer>,
                "pipewright: an observer has before(event) and after(event); take recorder, or write those two");
  auto const set = as_stage_set(std::move(stages));
  if constexpr (explain_transport<Transport>() && optimizer<Optimizer> && observer<Observer>)
    return pipeline_of<std::remove_const_t<decltype(set)>, Transport, Optimizer, Observer>(
        plan, set, here, std::move(with), std::move(options), watched_by);
}

}  // namespace pipewright::inline v0
