// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/schedule/policy.hpp>
#include <pipewright/stage/explain.hpp>
#include <pipewright/stage/stage_set.hpp>

namespace pipewright::inline v0 {

/// Where a schedule asks for more than a stage has; its arguments stand in the error.
template<class Schedule, class Stage> struct SCHEDULE_SPLITS_A_BACKWARD_THAT_COMES_WHOLE {
  static constexpr bool ok = Schedule::backward != backward_form::split || split_backward_stage<Stage>;
  static_assert(ok,
                "pipewright: this schedule runs the halves of backward apart, and this stage has it whole only; the "
                "arguments of SCHEDULE_SPLITS_A_BACKWARD_THAT_COMES_WHOLE name both; give the stage backward_input and "
                "backward_weight, or choose a schedule with a full backward such as pipewright::flush");
};

/// Explains at compile time what a schedule needs and a stage lacks; true where the stage can run under it.
template<schedule_policy Schedule, class Stage> consteval bool explain_needs() {
  if constexpr (!explain_stage<Stage>()) return false;
  else return SCHEDULE_SPLITS_A_BACKWARD_THAT_COMES_WHOLE<Schedule, Stage>::ok;
}

/// The last stage of a set whose training was asked for.
template<class Last> struct LAST_STAGE_GIVES_NO_LOSS {
  static constexpr bool ok = loss_stage<Last>;
  static_assert(ok,
                "pipewright: training needs a loss, and the last stage gives none; the argument of "
                "LAST_STAGE_GIVES_NO_LOSS is that stage; put a loss stage (it names target) at the end of the list");
};

/// Explains at compile time why a set of stages cannot be trained; true where it can.
template<stage_set Set> consteval bool explain_training() { return LAST_STAGE_GIVES_NO_LOSS<typename Set::last>::ok; }

/// Where micro-batches come from: input(m, Input&) writes the first stage's input, target(m, Target&) the loss's target.
template<class Batch, class Input>
concept gives_input = requires(Batch& batch, int micro_batch, Input& into) { batch.input(micro_batch, into); };
template<class Batch, class Target>
concept gives_target = requires(Batch& batch, int micro_batch, Target& into) { batch.target(micro_batch, into); };

/// A batch that cannot fill the first stage's input.
template<class Batch, class Input> struct BATCH_GIVES_ANOTHER_INPUT {
  static constexpr bool ok = gives_input<Batch, Input>;
  static_assert(
      ok,
      "pipewright: a batch lacks input(int micro_batch, Input&) for the first stage's input; the arguments of "
      "BATCH_GIVES_ANOTHER_INPUT are the batch and that type; let it write that type");
};
/// A batch that cannot fill the loss stage's target.
template<class Batch, class Target> struct BATCH_GIVES_ANOTHER_TARGET {
  static constexpr bool ok = gives_target<Batch, Target>;
  static_assert(
      ok,
      "pipewright: a batch lacks target(int micro_batch, Target&) for the loss stage's target; the arguments of "
      "BATCH_GIVES_ANOTHER_TARGET are the batch and that type; let it write that type");
};

/// Explains at compile time what a batch lacks for a set of stages; true where it lacks nothing.
template<class Batch, stage_set Set> consteval bool explain_batch() {
  if constexpr (!gives_input<Batch, typename Set::input>)
    return BATCH_GIVES_ANOTHER_INPUT<Batch, typename Set::input>::ok;
  else if constexpr (loss_stage<typename Set::last>)
    return BATCH_GIVES_ANOTHER_TARGET<Batch, typename Set::last::target>::ok;
  else return true;
}

}  // namespace pipewright::inline v0
