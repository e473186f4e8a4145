// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include <pipewright/pipeline/options.hpp>

namespace pipewright::inline v0::libtorch {

/// The factor by which the loss's gradient is multiplied so that half-precision gradients do not vanish; each stage divides
/// it out again where it adds into its master gradient. Dynamic as PyTorch's GradScaler: halved where an update was passed over
/// because a gradient was not finite, doubled after `growth_interval` good ones. One for each rank, given to all of its stages;
/// pipeline_options::non_finite = skip over the whole model keeps the ranks' equal. Tell it every result:
///     scaler.note(training.step(batch));
/// A schedule that never drains has micro-batches in flight when the factor changes: there, a growth_interval of 0 fixes it.
class loss_scaler {
 public:
  /// Powers of two change no bit but where a number under- or overflows.
  explicit loss_scaler(double factor = 65536, int growth_interval = 2000)
      : factor_{factor}, interval_{growth_interval} {}

  double factor() const { return factor_; }

  /// All that it is between steps: what to keep beside a checkpoint, and to go on with.
  struct state {
    double factor;
    int good_updates;
    std::int64_t updates;
  };
  state now() const { return {factor_, good_, updates_}; }
  void resume(state const& from) {
    factor_ = from.factor;
    good_ = from.good_updates;
    updates_ = from.updates;
  }

  /// After every step, on every rank; `steps_between_updates` is pipeline_options::accumulate.
  void note(step_result const& result, int steps_between_updates = 1) {
    if (interval_ == 0 || (result.step + 1) % steps_between_updates != 0) return;
    if (result.updates == updates_) {
      factor_ = std::max(factor_ / 2, 1.0);
      good_ = 0;
    } else if (++good_ == interval_) {
      factor_ *= 2;
      good_ = 0;
    }
    updates_ = result.updates;
  }

 private:
  double factor_;
  int interval_, good_ = 0;
  std::int64_t updates_ = 0;
};

}  // namespace pipewright::inline v0::libtorch
