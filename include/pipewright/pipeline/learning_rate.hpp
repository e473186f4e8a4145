// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace pipewright::inline v0 {

/// How a learning rate goes on after its warm-up.
enum class rate_shape : std::uint8_t { constant, linear, cosine };

/// A learning rate by update number: it rises linearly over `warm_up` updates to `peak`, then stays, or falls to `floor` at
/// update `last` along a line or half a cosine. Converts from a plain number, which is constant.
struct learning_rate {
  double peak = 0;
  rate_shape shape = rate_shape::constant;
  std::int64_t warm_up = 0;
  std::int64_t last = 0;
  double floor = 0;

  constexpr learning_rate(double constant = 0) : peak{constant} {}
  learning_rate(double top, rate_shape how, std::int64_t warm_up_updates, std::int64_t last_update, double bottom = 0)
      : peak{top}, shape{how}, warm_up{warm_up_updates}, last{last_update}, floor{bottom} {}

  /// The rate of the number-th update, counted from 1.
  double at(std::int64_t number) const {
    if (number <= warm_up) return peak * static_cast<double>(number) / static_cast<double>(warm_up);
    if (shape == rate_shape::constant) return peak;
    double const part = last > warm_up
                            ? std::min(1.0, static_cast<double>(number - warm_up) / static_cast<double>(last - warm_up))
                            : 1.0;
    double const kept = shape == rate_shape::linear ? 1 - part : (1 + std::cos(std::numbers::pi * part)) / 2;
    return floor + (peak - floor) * kept;
  }
};

}  // namespace pipewright::inline v0
