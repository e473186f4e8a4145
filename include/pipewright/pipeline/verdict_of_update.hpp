// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>

#include <pipewright/error.hpp>
#include <pipewright/pipeline/options.hpp>

namespace pipewright::inline v0::detail {

/// What is known of a batch's gradient before its update.
struct update_verdict {
  double norm = 0;     ///< of the summed gradient, before any scale
  double weight = 0;   ///< of the micro-batches' losses, added up
  int bad_stage = -1;  ///< the first stage whose gradient is not finite, or -1
};

/// What becomes of an update.
struct judged_update {
  double scale;  ///< of the summed gradient
  double norm;   ///< of the scaled gradient, before clipping
  bool finite;   ///< otherwise weights stay as they are
};

/// Whether each stage is clipped or checked by itself.
inline bool judges_by_stage(pipeline_options const& options) {
  return options.clip_over == clip_scope::stage && (options.clip > 0 || options.non_finite != on_non_finite::ignore);
}

/// Scales and clips as the options have it; `micro_batches` between two updates. Throws where a gradient that is not finite
/// is to stop the training. (Clipping as torch.nn.utils.clip_grad_norm_, epsilon included.)
inline judged_update judge(pipeline_options const& options, update_verdict const& found, int micro_batches) {
  double scale = options.scale == loss_scale::mean  ? 1.0 / (static_cast<double>(micro_batches) * options.accumulate)
                 : options.scale == loss_scale::sum ? 1.0
                                                    : 1.0 / found.weight;
  double const norm = found.norm * scale;
  if (options.clip > 0) scale *= std::min(1.0, options.clip / (norm + 1e-6));
  bool const finite = options.non_finite == on_non_finite::ignore || found.bad_stage < 0;
  if (!finite && options.non_finite == on_non_finite::stop)
    throw error("the gradient of stage " + std::to_string(found.bad_stage) +
                " is not finite; no weights have changed by this update");
  return {scale, norm, finite};
}

}  // namespace pipewright::inline v0::detail
