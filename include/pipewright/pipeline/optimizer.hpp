// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include <pipewright/pipeline/learning_rate.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0 {

/// Facts of one update.
struct optimizer_step {
  std::int64_t number = 1;    ///< of updates of this stage, from 1
  double gradient_scale = 1;  ///< the gradient's factor: the loss scale, and the clip's where there is one
};

/// Writes a stage's next weights from its newest ones and a gradient, parameter by parameter and out of place, so that an
/// older version stays readable. Where no reader remains, `fresh` may be the memory of `newest`: element i of fresh is
/// written after element i of newest was read, and not before.
/// Needs: (1) `static constexpr std::size_t states`, how many arrays of a parameter's size it keeps (they begin at zero and
/// are never versioned); (2) `update(optimizer_step, parameter_options, newest, gradient, fresh, states)`.
/// Promises: a function of its arguments; a frozen parameter's fresh value is its newest.
/// Not required: that it knows of stages, ranks or versions. Minimal model: sgd.
template<class O>
concept optimizer = requires(O const o, optimizer_step step, parameter_options options, std::span<float const> in,
                             std::span<float> out, std::array<std::span<float>, O::states> states) {
  { O::states } -> std::convertible_to<std::size_t>;
  o.update(step, options, in, in, out, states);
};

/// Explains at compile time why a training with an optimizer cannot be saved and resumed; true where it can. One that keeps
/// more than its states says so by `static constexpr bool keeps_more_than_states = true`.
template<optimizer O> consteval bool explain_saving() {
  constexpr bool keeps_more = requires { requires O::keeps_more_than_states; };
  static_assert(
      !keeps_more,
      "pipewright: this optimizer keeps more than its states, which a checkpoint would lose; to save and resume, "
      "train with sgd or adam, or with one whose states are all that it keeps");
  return !keeps_more;
}

/// Stochastic gradient descent, with momentum as PyTorch has it (buffer = momentum * buffer + gradient) and L2 decay.
struct sgd {
  learning_rate rate = 0.01;
  double momentum = 0;
  double weight_decay = 0;

  static constexpr std::size_t states = 1;

  /// What all elements of a parameter have in common in an update.
  template<class T> struct terms {
    T rate, momentum, decay, scale;
  };
  template<class T> terms<T> terms_of(optimizer_step step, parameter_options options) const {
    return {.rate = static_cast<T>(options.frozen ? 0 : rate.at(step.number)),
            .momentum = static_cast<T>(momentum),
            .decay = static_cast<T>(options.decay ? weight_decay : 0),
            .scale = static_cast<T>(step.gradient_scale)};
  }

  template<class T>
  void update(optimizer_step step, parameter_options options, std::span<T const> newest, std::span<T const> gradient,
              std::span<T> fresh, std::array<std::span<T>, states> state) const {
    auto const [lr, mu, decay, scale] = terms_of<T>(step, options);
    for (std::size_t i = 0; i < newest.size(); ++i) {
      T const g = gradient[i] * scale + decay * newest[i];
      T& moving = state[0][i];
      moving = mu * moving + g;
      fresh[i] = newest[i] - lr * moving;
    }
  }
};
static_assert(optimizer<sgd>);

/// Adam (arXiv 1412.6980) and, with `decoupled`, AdamW (arXiv 1711.05101), the same sums as PyTorch's.
struct adam {
  learning_rate rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0;
  bool decoupled = false;

  static constexpr std::size_t states = 2;

  /// What all elements of a parameter have in common in an update.
  template<class T> struct terms {
    T keep, l2, size, correction, beta1, rest1, beta2, rest2, epsilon, scale;
  };
  template<class T> terms<T> terms_of(optimizer_step step, parameter_options options) const {
    double const lr = rate.at(step.number), n = static_cast<double>(step.number),
                 decay = options.decay ? weight_decay : 0;
    return {.keep = static_cast<T>(decoupled ? 1 - lr * decay : 1),
            .l2 = static_cast<T>(decoupled ? 0 : decay),
            .size = static_cast<T>(lr / (1 - std::pow(beta1, n))),
            .correction = static_cast<T>(1 / std::sqrt(1 - std::pow(beta2, n))),
            .beta1 = static_cast<T>(beta1),
            .rest1 = static_cast<T>(1 - beta1),
            .beta2 = static_cast<T>(beta2),
            .rest2 = static_cast<T>(1 - beta2),
            .epsilon = static_cast<T>(epsilon),
            .scale = static_cast<T>(step.gradient_scale)};
  }

  template<class T>
  void update(optimizer_step step, parameter_options options, std::span<T const> newest, std::span<T const> gradient,
              std::span<T> fresh, std::array<std::span<T>, states> state) const {
    if (options.frozen) {
      std::copy(newest.begin(), newest.end(), fresh.begin());
      return;
    }
    auto const [keep, l2, size, correction, b1, rest1, b2, rest2, eps, scale] = terms_of<T>(step, options);
    for (std::size_t i = 0; i < newest.size(); ++i) {
      T const g = gradient[i] * scale + l2 * newest[i];
      T &m = state[0][i], &v = state[1][i];
      m = b1 * m + rest1 * g;
      v = b2 * v + rest2 * g * g;
      fresh[i] = keep * newest[i] - size * m / (std::sqrt(v) * correction + eps);
    }
  }
};
static_assert(optimizer<adam>);

/// AdamW with its usual decay.
constexpr adam adamw(learning_rate rate, double weight_decay = 0.01) {
  return {.rate = rate, .weight_decay = weight_decay, .decoupled = true};
}

}  // namespace pipewright::inline v0
