// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include <torch/types.h>
#include <torch/utils.h>

#include <pipewright/pipeline/optimizer.hpp>
#include <pipewright/stage/remote_parameter.hpp>

namespace pipewright::inline v0::libtorch {

/// A contiguous tensor on a device as the engine works with it there, in torch's operations. Its address is the tensor's, which
/// stays where it is.
template<class T> class device_parameter {
 public:
  using element = T;

  explicit device_parameter(void* address) : of_{static_cast<at::Tensor*>(address)} {}
  void* address() const { return of_; }
  at::Tensor const& operator*() const { return *of_; }

  std::size_t size() const { return static_cast<std::size_t>(of_->numel()); }
  void clear() { of_->zero_(); }
  /// Waits for the device.
  double squares() const {
    torch::NoGradGuard const no_graph;
    double const norm = at::linalg_vector_norm(*of_, 2, std::nullopt, false, at::kDouble).template item<double>();
    return norm * norm;
  }
  void copy_from(device_parameter other) { of_->copy_(*other); }
  void sum_with(device_parameter other) {
    of_->add_((*other).to(of_->device()));  // two stages of a rank may be on two devices
    other.copy_from(*this);
  }
  void read(std::span<T> to) const { of(to.data()).copy_(of_->flatten()); }
  void write(std::span<T const> from) { of_->copy_(of(const_cast<T*>(from.data())).view(of_->sizes())); }
  std::shared_ptr<void> like() const { return std::make_shared<at::Tensor>(torch::zeros_like(*of_)); }

 private:
  at::Tensor of(T* host) const {
    return torch::from_blob(host, {of_->numel()}, at::TensorOptions(c10::CppTypeToScalarType<T>::value));
  }

  at::Tensor* of_;
};
static_assert(remote_parameter<device_parameter<float>>);

/// sgd::update on a device; not that of a class derived from it, which may be another.
template<std::same_as<sgd> Optimizer, class T>
void update_remote(Optimizer const& by, optimizer_step step, parameter_options options, device_parameter<T> newest,
                   device_parameter<T> gradient, device_parameter<T> fresh, std::array<device_parameter<T>, 1> states) {
  torch::NoGradGuard const no_graph;
  double const rate = options.frozen ? 0 : by.rate.at(step.number), decay = options.decay ? by.weight_decay : 0;
  at::Tensor moving = *states[0], to = *fresh;
  moving.mul_(by.momentum).add_(*gradient, step.gradient_scale).add_(*newest, decay);
  to.copy_(*newest).sub_(moving, rate);
}

/// adam::update on a device, likewise.
template<std::same_as<adam> Optimizer, class T>
void update_remote(Optimizer const& by, optimizer_step step, parameter_options options, device_parameter<T> newest,
                   device_parameter<T> gradient, device_parameter<T> fresh, std::array<device_parameter<T>, 2> states) {
  torch::NoGradGuard const no_graph;
  at::Tensor to = *fresh;
  if (options.frozen) {
    to.copy_(*newest);
    return;
  }
  double const rate = by.rate.at(step.number), n = static_cast<double>(step.number),
               decay = options.decay ? by.weight_decay : 0;
  at::Tensor g = *gradient * step.gradient_scale, m = *states[0], v = *states[1];
  if (!by.decoupled && decay != 0) g.add_(*newest, decay);
  m.mul_(by.beta1).add_(g, 1 - by.beta1);
  v.mul_(by.beta2).addcmul_(g, g, 1 - by.beta2);
  auto const size = v.sqrt().div_(std::sqrt(1 - std::pow(by.beta2, n))).add_(by.epsilon);
  to.copy_(*newest);
  if (by.decoupled) to.mul_(1 - rate * decay);
  to.addcdiv_(m, size, -rate / (1 - std::pow(by.beta1, n)));
}

}  // namespace pipewright::inline v0::libtorch
