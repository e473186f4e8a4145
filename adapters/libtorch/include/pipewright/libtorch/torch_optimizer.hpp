// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include <torch/optim/optimizer.h>
#include <torch/types.h>

#include <pipewright/libtorch/device_parameter.hpp>
#include <pipewright/pipeline/learning_rate.hpp>
#include <pipewright/pipeline/optimizer.hpp>

namespace pipewright::inline v0::libtorch {

/// Any of torch's optimizers that treat each parameter by itself (SGD, Adam, AdamW, RMSprop, Adagrad; not LBFGS, which wants to
/// run the model). torch's update in place, so each works on a tensor of its own that holds the newest weights, and the result
/// is copied into the fresh version. Slower than pipewright's own adam and sgd, which write there at once.
///     libtorch::torch_optimizer([](std::vector<at::Tensor> p, pw::parameter_options o) {
///       return std::make_unique<torch::optim::AdamW>(p, torch::optim::AdamWOptions(3e-5).weight_decay(o.decay ? 0.1 : 0));
///     })
/// A copy starts with new states, and so would a training that is resumed: it cannot be saved, and the compiler says so.
class torch_optimizer {
 public:
  using maker = std::function<std::unique_ptr<torch::optim::Optimizer>(std::vector<at::Tensor>, parameter_options)>;

  static constexpr std::size_t states = 1;              ///< the tensor that it works on; its moments are torch's
  static constexpr bool keeps_more_than_states = true;  ///< see explain_saving

  /// `rate` replaces the optimizer's own at every step.
  explicit torch_optimizer(maker make, std::optional<learning_rate> rate = {})
      : make_{std::move(make)}, rate_{std::move(rate)} {}
  torch_optimizer(torch_optimizer const& other) : make_{other.make_}, rate_{other.rate_} {}
  torch_optimizer(torch_optimizer&&) noexcept = default;
  torch_optimizer& operator=(torch_optimizer other) noexcept {
    make_.swap(other.make_);
    std::swap(rate_, other.rate_);
    on_.swap(other.on_);
    return *this;
  }
  ~torch_optimizer() = default;

  template<class T>
  void update(optimizer_step step, parameter_options options, std::span<T const> newest, std::span<T const> gradient,
              std::span<T> fresh, std::array<std::span<T>, states> state) const {
    if (newest.empty()) return;
    auto const seen = [](std::span<T const> values) {
      return torch::from_blob(const_cast<T*>(values.data()), {static_cast<std::int64_t>(values.size())},
                              at::TensorOptions(c10::CppTypeToScalarType<T>::value));
    };
    update(step, options, seen(newest), seen(gradient), seen(fresh), seen(state[0]));
  }
  template<class T>
  friend void update_remote(torch_optimizer const& by, optimizer_step step, parameter_options options,
                            device_parameter<T> newest, device_parameter<T> gradient, device_parameter<T> fresh,
                            std::array<device_parameter<T>, states> state) {
    if (newest.size() != 0) by.update(step, options, *newest, *gradient, *fresh, *state[0]);
  }

 private:
  void update(optimizer_step step, parameter_options options, at::Tensor const& newest, at::Tensor const& gradient,
              at::Tensor const& fresh, at::Tensor const& state) const {
    torch::NoGradGuard const no_graph;
    if (options.frozen) {
      fresh.copy_(newest);
      return;
    }
    auto& [tensor, optimizer] = of(state, options);
    state.copy_(newest);
    tensor.mutable_grad().copy_(gradient).mul_(step.gradient_scale);
    if (rate_)
      for (auto& group : optimizer->param_groups()) group.options().set_lr(rate_->at(step.number));
    optimizer->step();
    fresh.copy_(state);
  }

  struct one {
    at::Tensor tensor;
    std::unique_ptr<torch::optim::Optimizer> optimizer;
  };
  /// The optimizer of the parameter whose state that is: the memory stays where it is as long as the pipeline.
  one& of(at::Tensor const& state, parameter_options options) const {
    auto& found = on_[state.const_data_ptr()];
    if (found.optimizer) return found;
    found.tensor = state.detach().requires_grad_();
    found.tensor.mutable_grad() = torch::zeros_like(found.tensor);
    found.optimizer = make_({found.tensor}, options);
    return found;
  }

  maker make_;
  std::optional<learning_rate> rate_;
  mutable std::unordered_map<void const*, one> on_;
};
static_assert(optimizer<torch_optimizer>);

}  // namespace pipewright::inline v0::libtorch
