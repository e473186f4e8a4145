// SPDX-License-Identifier: Apache-2.0
#pragma once
// Whether plan, options, stages and ranks fit together: within a rank, and between ranks.

#include <array>
#include <charconv>
#include <cstdint>
#include <string>

#include <pipewright/error.hpp>
#include <pipewright/pipeline/options.hpp>
#include <pipewright/plan/plan_view.hpp>
#include <pipewright/stage/recompute.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0::detail {

/// Throws where a plan cannot be run with these options by that many ranks over that many stages.
inline void check_fit(plan_view const& plan, pipeline_options const& options, int ranks, int stages) {
  auto const n = [](auto v) { return std::to_string(v); };
  shape const f = plan.facts;
  if (ranks != f.ranks)
    throw error("the plan has " + n(f.ranks) + " ranks, but the transport joins " + n(ranks) +
                "; make the plan for as many ranks as run");
  if (stages != plan.stages())
    throw error("schedule " + std::string(plan.schedule) + " with " + n(f.ranks) + " ranks and " + n(f.chunks) +
                " chunks runs " + n(plan.stages()) + " stages, but the model is cut into " + n(stages) +
                "; cut it into " + n(plan.stages()));
  if (plan.backward == backward_form::none) return;
  if (options.needs_step_facts() != plan.wants.step_facts)
    throw error(plan.wants.step_facts ? "the plan exchanges step facts that no option asks for; make it without "
                                        "needs::step_facts, or set clip, non_finite or per_token"
                                      : "clipping over the model, a non-finite check over the model and per-token "
                                        "scale need facts of all ranks; make the plan with needs{.step_facts = true}"
                                        ", or clip over each stage");
  if (plan.wants.tied() && options.clip_over == clip_scope::stage &&
      (options.clip > 0 || options.non_finite != on_non_finite::ignore))
    throw error(
        "clipping or checking each stage by itself would update the two ends of a tied weight differently; let "
        "clip_over be the model, or copy the weight");
  if (options.accumulate < 1)
    throw error("accumulate counts steps between updates and is at least 1, not " + n(options.accumulate));
  if (options.accumulate > 1 && plan.is_stream())
    throw error(
        "an asynchronous schedule does not accumulate over steps, since its versions count updates; give a step more "
        "micro-batches instead");
  if (plan.weights != weight_rule::synchronous && !plan.is_stream())
    throw error(
        "a pipeline trains with a stream, but this plan of an asynchronous schedule ends; make it with make_plan");
}

/// Throws where a stage cannot do what the plan asks of the one at `index`.
template<class Stage> void check_stage(Stage const& made, plan_view const& plan, int index) {
  if (plan.backward == backward_form::none) return;
  std::string const stage = "stage " + std::to_string(index);
  if (index + 1 == plan.stages() && !loss_stage<Stage>)
    throw error(stage +
                ", the last, is no loss stage; training ends in one "
                "(forward(context, weights, input, target, saved) -> loss)");
  recompute_mode const mode = recompute_mode_of(made);
  if (mode != recompute_mode::never && mode != plan.wants.recompute)
    throw error(stage +
                " is marked to be recomputed, but the plan has no such action; "
                "make the plan with needs{.recompute = ...} of the same mode");
  if (plan.backward == backward_form::split && !split_backward_stage<Stage>)
    throw error("schedule " + std::string(plan.schedule) + " runs the halves of backward apart, but " + stage +
                " has no backward_input and backward_weight; add them or choose a schedule with a full backward");
}

/// Of all ranks' programs (FNV-1a): tells two schedules of one name apart. Linear.
inline std::uint64_t fingerprint(plan_view const& plan) {
  std::uint64_t hash = 14695981039346656037u;
  auto const mix = [&](int value) { hash = (hash ^ static_cast<std::uint32_t>(value)) * 1099511628211u; };
  for (int s = 0; s < plan.stages(); ++s) mix(plan.rank_of_stage[s]);
  for (int r = 0; r < plan.programs.count; ++r)
    for (instruction const& i : plan.programs[r]) {
      mix(static_cast<int>(i.what.what));
      mix(i.what.stage);
      mix(i.what.micro_batch);
      mix(i.version);
    }
  return hash;
}

/// All that must be equal on every rank, in words. Exact, so that ranks agree if and only if their texts are equal.
inline std::string digest_of(plan_view const& plan, pipeline_options const& options) {
  std::string text = "pipewright ";
  text += plan.schedule;
  auto const add = [&](auto value) {
    std::array<char, 32> digits{};  // the shortest that are it exactly
    text += ' ';
    text.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr);
  };
  shape const f = plan.facts;
  needs const w = plan.wants;
  for (int const v : {f.ranks, f.micro_batches, f.chunks, f.group, static_cast<int>(w.recompute),
                      static_cast<int>(w.step_facts), w.tied_first, w.tied_second})
    add(v);
  add(options.seed);
  for (int const v : {static_cast<int>(options.scale), static_cast<int>(options.clip_over),
                      static_cast<int>(options.non_finite), options.accumulate})
    add(v);
  text += " programs";
  add(fingerprint(plan));
  text += " clip";
  add(options.clip);
  text += " tied ";
  text += options.tied.first;
  text += '=';
  text += options.tied.second;
  return text;
}

}  // namespace pipewright::inline v0::detail
