// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include <torch/optim/optimizer.h>
#include <torch/types.h>

#include <pipewright/pipeline/learning_rate.hpp>
#include <pipewright/pipeline/optimizer.hpp>

namespace pipewright::inline v0::libtorch {

/// Any of torch's optimizers that treat each parameter by itself (SGD, Adam, AdamW, RMSprop, Adagrad; not LBFGS, which wants to
/// run the model). torch's update in place, so each works on a tensor of its own that holds the newest weights, and the result
/// is copied into the fresh version. Slower than pipewright's own adam and sgd, which write there at once.
///     libtorch::torch_optimizer([](std::vector<at::Tensor> p, pw::parameter_options o) {
///       return std::make_unique<torch::optim::AdamW>(p, torch::optim::AdamWOptions(3e-5).weight_decay(o.decay ? 0.1 : 0));
///     })
/// A copy starts with new states.
class torch_optimizer {
 public:
  using maker = std::function<std::unique_ptr<torch::optim::Optimizer>(std::vector<at::Tensor>, parameter_options)>;

  static constexpr std::size_t states = 1;  ///< the tensor that it works on; its moments are torch's

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
    if (options.frozen || newest.empty()) {
      std::copy(newest.begin(), newest.end(), fresh.begin());
      return;
    }
    auto& [tensor, optimizer] = of(state[0], options);
    std::copy(newest.begin(), newest.end(), state[0].begin());
    T* const to = tensor.mutable_grad().template mutable_data_ptr<T>();
    T const scale = static_cast<T>(step.gradient_scale);
    for (std::size_t i = 0; i < gradient.size(); ++i) to[i] = gradient[i] * scale;
    if (rate_)
      for (auto& group : optimizer->param_groups()) group.options().set_lr(rate_->at(step.number));
    optimizer->step();
    std::copy(state[0].begin(), state[0].end(), fresh.begin());
  }

 private:
  struct one {
    at::Tensor tensor;
    std::unique_ptr<torch::optim::Optimizer> optimizer;
  };
  /// The optimizer of the parameter whose state that is: the memory stays where it is as long as the pipeline.
  template<class T> one& of(std::span<T> state, parameter_options options) const {
    auto& found = on_[state.data()];
    if (found.optimizer) return found;
    found.tensor = torch::from_blob(state.data(), {static_cast<std::int64_t>(state.size())},
                                    at::TensorOptions(c10::CppTypeToScalarType<T>::value))
                       .requires_grad_();
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
