// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <pipewright/error.hpp>
#include <string>
#include <string_view>

namespace pipewright::inline v0::gpt2 {

/// How the learning rate goes on after the warm-up.
enum class decay_shape { constant, linear, cosine };

/// "constant", "linear" or "cosine". Throws error for anything else.
[[nodiscard]] inline auto parse_decay_shape(std::string_view name) -> decay_shape {
  if (name == "constant") return decay_shape::constant;
  if (name == "linear") return decay_shape::linear;
  if (name == "cosine") return decay_shape::cosine;
  throw error("there is no learning-rate schedule " + std::string(name) + "; choose constant, linear or cosine");
}

/// The learning rate of each update: a linear warm-up from 0, then constant, or falling linearly or along half a cosine
/// to `final_share` of the peak at the last step, and constant from there on.
struct learning_rate {
  double peak = 1e-3;
  decay_shape shape = decay_shape::constant;
  std::int64_t warm_up = 0;  ///< steps; step number `warm_up` is the first at the peak
  std::int64_t steps = 0;    ///< in all
  double final_share = 0.1;

  /// The rate of update `number`, which counts from 1.
  [[nodiscard]] auto operator()(std::int64_t number) const -> double {
    if (number < warm_up) return peak * static_cast<double>(number) / static_cast<double>(warm_up);
    if (shape == decay_shape::constant) return peak;
    auto const first = std::max<std::int64_t>(warm_up, 1);
    auto const way = steps > first ? static_cast<double>(number - first) / static_cast<double>(steps - first) : 1.;
    auto const done = std::clamp(way, 0., 1.);
    auto const left = shape == decay_shape::linear ? 1. - done : 0.5 * (1. + std::cos(std::numbers::pi * done));
    return peak * (final_share + (1. - final_share) * left);
  }
};

}  // namespace pipewright::inline v0::gpt2
