// SPDX-License-Identifier: Apache-2.0
// The optimizer that the command line names.
#pragma once

#include <array>
#include <span>
#include <variant>

#include <pipewright/pipeline/optimizer.hpp>

#include "request.hpp"

namespace trainer {

/// One of the library's optimizers, chosen at start-up: one type for the engine, whichever it is.
struct chosen_optimizer {
  std::variant<pw::sgd, pw::adam> chosen;

  static constexpr std::size_t states = pw::adam::states;

  template<class T>
  void update(pw::optimizer_step step, pw::parameter_options options, std::span<T const> newest,
              std::span<T const> gradient, std::span<T> fresh, std::array<std::span<T>, states> state) const {
    if (auto const* const sgd = std::get_if<pw::sgd>(&chosen))
      sgd->update(step, options, newest, gradient, fresh, std::array<std::span<T>, 1>{state[0]});
    else std::get<pw::adam>(chosen).update(step, options, newest, gradient, fresh, state);
  }
};
static_assert(pw::optimizer<chosen_optimizer>);

inline pw::rate_shape rate_shape_of(std::string const& name) {
  return name == "linear"   ? pw::rate_shape::linear
         : name == "cosine" ? pw::rate_shape::cosine
                            : pw::rate_shape::constant;
}

/// `updates_per_step`: however often a schedule updates, it goes through the same rates in the same steps.
inline chosen_optimizer optimizer_of(request const& r, int updates_per_step) {
  auto const times = [&](int steps) { return static_cast<std::int64_t>(steps) * updates_per_step / r.accumulate; };
  pw::learning_rate const rate(r.learning_rate, rate_shape_of(r.rate_shape), times(r.warm_up), times(r.steps),
                               0.1 * r.learning_rate);
  if (r.optimizer == "sgd") return {pw::sgd{.rate = rate, .momentum = r.momentum, .weight_decay = r.weight_decay}};
  return {pw::adam{.rate = rate, .weight_decay = r.weight_decay, .decoupled = r.optimizer == "adamw"}};
}

}  // namespace trainer
