// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace pipewright::inline v0 {

/// What an update's gradient is the gradient of, over the micro-batches between two updates.
enum class loss_scale : std::uint8_t {
  mean,       ///< the mean of the micro-batches' losses (each itself a mean, say): the sum over their number
  sum,        ///< their sum
  per_token,  ///< the sum over the sum of their weights (loss.weight); exact for micro-batches of unequal length
};

/// Over what a gradient norm is taken before it is clipped.
enum class clip_scope : std::uint8_t {
  model,  ///< all stages of all ranks, as without a pipeline
  stage,  ///< each stage by itself: no exchange between ranks, so it runs under every schedule, but it depends on the cut
};

/// What happens when a gradient holds an infinity or not-a-number.
enum class on_non_finite : std::uint8_t {
  ignore,  ///< nothing; no check is made
  skip,    ///< the update leaves all weights as they are
  stop,    ///< an error that names step and stage; no weights have changed
};

/// Two parameters that are one weight: equal at the start, one summed gradient, hence equal for ever.
struct tied_parameters {
  std::string first;   ///< name of the parameter in stage needs::tied_first
  std::string second;  ///< and in stage needs::tied_second
};

/// How a pipeline trains. Equal on all ranks.
struct pipeline_options {
  std::uint64_t seed = 0;  ///< of initial weights and dropout
  loss_scale scale = loss_scale::mean;
  double clip = 0;  ///< largest gradient norm; 0: no clipping
  clip_scope clip_over = clip_scope::model;
  on_non_finite non_finite = on_non_finite::ignore;
  int accumulate = 1;  ///< steps between two updates; synchronous schedules only
  tied_parameters tied{};

  /// Whether ranks must exchange facts before an update: what needs::step_facts says to the plan. per_token needs no exchange
  /// on one rank, but asks for it all the same, so that the plan does not depend on P.
  bool needs_step_facts() const {
    return (clip > 0 && clip_over == clip_scope::model) ||
           (non_finite != on_non_finite::ignore && clip_over == clip_scope::model) || scale == loss_scale::per_token;
  }
};

/// What a step has told this rank.
struct step_result {
  std::int64_t step = 0;     ///< since the start of training
  bool has_loss = false;     ///< this rank runs the loss stage
  double loss = 0;           ///< of the step's micro-batches, as loss_scale has it
  double gradient_norm = 0;  ///< of the newest update, before clipping; 0 where none is computed
  std::int64_t updates = 0;  ///< done on this rank since the start of training
};

}  // namespace pipewright::inline v0
