// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/pipeline/options.hpp>
#include <pipewright/pipeline/oracle/stage.hpp>
#include <pipewright/plan/plan_view.hpp>
#include <pipewright/stage/explain_needs.hpp>
#include <pipewright/stage/stage_set.hpp>

namespace pipewright::inline v0 {

/// Which weights a serial_oracle's backward reads.
enum class backward_reads : std::uint8_t {
  version_of_forward,  ///< what every schedule does
  newest,              ///< no stashing: the gradient of no single weights; a control that must differ
};

/// Training as a schedule's mathematics has it, without a pipeline: one micro-batch after another, all stages in one place,
/// weight versions kept in a list. With g_s(i; versions) the gradient of micro-batch i's loss by stage s's weights, P
/// stages, i0 the first micro-batch and t0 the first batch since the last drain:
///   synchronous      W(t+1)     = OPT(W(t), sum over batch t of g(i; W(t)))
///   stashing         W_s(i+1)   = OPT_s(W_s(i), g_s(i; stage k at version max(i0, i-(P-1-k))))            (PipeDream)
///   vertical_sync    W_s(i+1)   = OPT_s(W_s(i), g_s(i; all stages at version max(i0, i-(P-1))))           (PipeDream)
///   double_buffered  W(t+1)     = OPT(W(t), sum over batch t of g(i; W(max(t0, t-1))))                    (PipeDream-2BW)
/// A pipeline with the same options gives the same bits. It shares no code with one and knows no plan, program or
/// transport; it is for tests, and for those who invent a schedule.
template<stage_set Set, optimizer Optimizer> class serial_oracle {
  using any_stage_here = detail::oracle_stage<Optimizer>;

 public:
  /// `s` is complete: chunks included. Throws error where the last stage gives no loss, the set has not s.stages() stages,
  /// or the rule cannot keep the options.
  serial_oracle(Set set, weight_rule rule, shape s, Optimizer optimizer, pipeline_options options = {},
                needs wants = {}, backward_reads reads = backward_reads::version_of_forward)
      : set_(std::move(set)),
        rule_{rule},
        shape_{s},
        optimizer_(std::move(optimizer)),
        options_(std::move(options)),
        wants_{wants},
        reads_{reads} {
    static_assert(explain_training<Set>());
    check();
    for (int index = 0; index < set_.size(); ++index) {
      set_.visit(index, [&]<class Stage>(Stage stage) {
        stages_.push_back(std::make_unique<detail::oracle_stage_of<Stage, Optimizer>>(
            std::move(stage), context_of(index, 0), versions_kept()));
      });
    }
    for (std::size_t i = 0; i < stages_.size(); ++i)
      stages_[i]->join(i == 0 ? nullptr : stages_[i - 1].get(),
                       i + 1 == stages_.size() ? nullptr : stages_[i + 1].get());
  }

  /// Trains on one batch of shape.micro_batches micro-batches. The loss is the batch's, under every rule.
  step_result step(auto&& batch) {
    loss total{0, 0};
    for (int m = 0; m < shape_.micro_batches; ++m) {
      loss each = run_forward(batch, m, true);
      each.settle();
      total = {total.value + each.value, total.weight + each.weight};
      weight_since_update_ += each.weight;
      run_backward(m);
      ++micro_batches_;
      if (micro_batches_ % interval() == 0) update();
    }
    ++steps_;
    return result(total);
  }

  /// Ends a stream: what comes next begins on the newest weights.
  void drain() { first_since_drain_ = micro_batches_; }

  /// The loss of a batch under the newest weights, which stay as they are; drains first.
  step_result evaluate(auto&& batch) {
    drain();
    loss total{0, 0};
    for (int m = 0; m < shape_.micro_batches; ++m) {
      loss each = run_forward(batch, m, false);
      each.settle();
      total = {total.value + each.value, total.weight + each.weight};
    }
    return result(total);
  }

  int stages() const { return static_cast<int>(stages_.size()); }
  std::int64_t updates() const { return stages_.back()->updates(); }  ///< of the last stage, those passed over left out
  /// The newest weights of a stage: visit(name, values, parameter_options).
  void for_each_parameter(int stage, auto&& visit) {
    with(stage, [&](auto& here) { here.newest().for_each_parameter(visit); });
  }

 private:
  step_result result(loss const& total) const {
    return {.step = steps_ - 1,
            .has_loss = true,
            .loss = scaled(total),
            .gradient_norm = norm_,
            .updates = stages_.back()->updates()};
  }

  void check() const {
    if (set_.size() != shape_.stages())
      throw error("pipewright: the shape has " + std::to_string(shape_.stages()) + " stages, the set " +
                  std::to_string(set_.size()) + "; make the two equal");
    if (wants_.tied() && options_.clip_over == clip_scope::stage &&
        (options_.clip > 0 || options_.non_finite != on_non_finite::ignore))
      throw error(
          "pipewright: the two ends of a tied weight cannot be clipped or checked apart; let clip_over be the model");
    if (rule_ == weight_rule::synchronous) return;
    if (shape_.stages() != shape_.ranks)
      throw error("pipewright: an asynchronous rule is defined for one stage a rank; set chunks to 1");
    if (options_.accumulate != 1)
      throw error("pipewright: gradients accumulate over several steps under synchronous schedules only");
    if (rule_ == weight_rule::stashing && (options_.needs_step_facts() || wants_.tied()))
      throw error(
          "pipewright: weight stashing has no norm over the model, no token count and no tied weights; clip per stage");
  }

  std::int64_t interval() const {
    if (rule_ == weight_rule::stashing || rule_ == weight_rule::vertical_sync) return 1;
    return std::int64_t{shape_.micro_batches} * options_.accumulate;
  }
  std::size_t versions_kept() const { return static_cast<std::size_t>(std::max(2, shape_.ranks)); }

  /// The version that the next micro-batch reads on a stage.
  std::int64_t version(int stage) const {
    switch (rule_) {
      case weight_rule::synchronous: return versions_made_;
      case weight_rule::stashing: return std::max(first_since_drain_, micro_batches_ - (shape_.ranks - 1 - stage));
      case weight_rule::vertical_sync: return std::max(first_since_drain_, micro_batches_ - (shape_.ranks - 1));
      case weight_rule::double_buffered: {
        auto const batch = [&](std::int64_t micro_batch) { return micro_batch / shape_.micro_batches; };
        return std::max(batch(first_since_drain_), batch(micro_batches_) - 1);
      }
    }
    return versions_made_;
  }

  stage_context context_of(int stage, int micro_batch) const {
    return {.rank = stage % shape_.ranks,
            .stage = stage,
            .micro_batch = micro_batch,
            .step = steps_,
            .seed = options_.seed};
  }

  loss run_forward(auto& batch, int micro_batch, bool training) {
    read(batch, micro_batch);
    loss last;
    for (int s = 0; s < stages(); ++s) {
      auto context = context_of(s, micro_batch);
      context.training = training;
      if (!training) --context.step;  // of the newest weights
      last = at(s).forward(context, training ? version(s) : versions_made_);
    }
    return last;
  }
  void run_backward(int micro_batch) {
    if (reads_ == backward_reads::newest && is_recomputed(wants_.recompute, shape_, micro_batch))
      recompute(micro_batch);
    for (int s = stages(); s-- > 0;)
      at(s).backward(context_of(s, micro_batch), reads_ == backward_reads::newest ? versions_made_ : version(s));
  }
  /// Without stashing a recomputed forward reads other weights than the first one did, from the same input.
  void recompute(int micro_batch) {
    for (int s = stages(); s-- > 0;) {  // last to first: a stage's output is the input of the one after
      auto context = context_of(s, micro_batch);
      context.recomputing = true;
      at(s).forward(context, versions_made_);
    }
  }

  void read(auto& batch, int micro_batch) {
    batch.input(micro_batch, *static_cast<typename Set::input*>(at(0).first_input()));
    batch.target(micro_batch, *static_cast<typename Set::last::target*>(at(stages() - 1).target()));
  }

  double scaled(loss const& sum) const {
    switch (options_.scale) {
      case loss_scale::mean: return sum.value / shape_.micro_batches;
      case loss_scale::sum: return sum.value;
      case loss_scale::per_token: return sum.value / sum.weight;
    }
    return sum.value;
  }

  void update() {
    double scale = 1;
    if (options_.scale == loss_scale::mean) scale = 1.0 / static_cast<double>(interval());
    if (options_.scale == loss_scale::per_token) scale = 1.0 / weight_since_update_;
    if (wants_.tied()) at(wants_.tied_first).tie(options_.tied.first, at(wants_.tied_second), options_.tied.second);

    std::vector<detail::gradient_facts> facts;
    for (int s = 0; s < stages(); ++s)
      facts.push_back(at(s).facts(s == wants_.tied_second ? options_.tied.second : std::string_view{}));
    bool const over_model = options_.clip_over == clip_scope::model;
    detail::gradient_facts model;
    for (auto const& each : facts) {
      model.squares.insert(model.squares.end(), each.squares.begin(), each.squares.end());
      model.finite = model.finite && each.finite;
    }
    bool const checks = options_.non_finite != on_non_finite::ignore;
    for (int s = 0; s < stages(); ++s) {
      auto const& judged = over_model ? model : facts[static_cast<std::size_t>(s)];
      double squares = 0;
      for (double const each : judged.squares) squares += each;
      norm_ = std::sqrt(squares) * scale;
      if (checks && !judged.finite && options_.non_finite == on_non_finite::stop)
        throw error("pipewright: step " + std::to_string(steps_) + ": the gradient is not finite");
      double const clip = options_.clip > 0 ? std::min(1.0, options_.clip / (norm_ + 1e-6)) : 1.0;
      if (checks && !judged.finite) at(s).keep_weights();
      else at(s).update(optimizer_, scale * clip);
    }
    if (options_.clip == 0 && !checks && options_.scale != loss_scale::per_token) norm_ = 0;
    ++versions_made_;
    weight_since_update_ = 0;
  }

  any_stage_here& at(int stage) { return *stages_[static_cast<std::size_t>(stage)]; }
  /// Calls f with a stage in its own type.
  void with(int stage, auto&& f) {
    set_.visit(stage,
               [&]<class Stage>(Stage) { f(static_cast<detail::oracle_stage_of<Stage, Optimizer>&>(at(stage))); });
  }

  Set set_;
  weight_rule rule_;
  shape shape_;
  Optimizer optimizer_;
  pipeline_options options_;
  needs wants_;
  backward_reads reads_;
  std::vector<std::unique_ptr<any_stage_here>> stages_;

  std::int64_t steps_ = 0;
  std::int64_t micro_batches_ = 0;      // since the start of training
  std::int64_t first_since_drain_ = 0;  // micro-batch
  std::int64_t versions_made_ = 0;      // of every stage's weights, after the first
  double weight_since_update_ = 0;
  double norm_ = 0;  // of the last stage where each stage has its own
};

}  // namespace pipewright::inline v0
