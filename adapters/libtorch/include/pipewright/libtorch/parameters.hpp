// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <pipewright/error.hpp>
#include <pipewright/libtorch/device_parameter.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0::libtorch {

/// A module's parameters by the model's names, and what an optimizer may do to them. Fixed when the stage is made.
struct parameter_list {
  std::vector<std::string> names;
  std::vector<at::Tensor> parameters;  ///< the module's own: what they hold is replaced from action to action
  std::vector<parameter_options> options;

  std::size_t size() const { return parameters.size(); }
};

namespace detail {

/// The dtype in which the engine keeps, adds up and updates a parameter: its own, or float for the half-precision ones.
inline at::ScalarType master_dtype(at::Tensor const& parameter) {
  switch (parameter.scalar_type()) {
    case at::kHalf:
    case at::kBFloat16: return at::kFloat;
    default: return parameter.scalar_type();
  }
}

}  // namespace detail

/// A version of a module's parameters, or their gradients: explicit, so that versions are the engine's business. Half-precision
/// parameters are kept in float (master weights), others in their own dtype; all on their device. Copies are deep.
class parameter_values {
 public:
  parameter_values() = default;
  /// Copies of what the module's parameters hold.
  explicit parameter_values(std::shared_ptr<parameter_list const> of) : of_{std::move(of)} {
    torch::NoGradGuard const no_graph;
    for (at::Tensor const& each : of_->parameters)
      values_.push_back(each.detach().to(detail::master_dtype(each), false, true).contiguous());
  }
  parameter_values(parameter_values const& other) : of_{other.of_} {
    for (at::Tensor const& each : other.values_) values_.push_back(each.clone());
  }
  parameter_values(parameter_values&&) noexcept = default;
  parameter_values& operator=(parameter_values other) noexcept {
    of_.swap(other.of_);
    values_.swap(other.values_);
    return *this;
  }
  ~parameter_values() = default;

  std::size_t size() const { return values_.size(); }
  at::Tensor const& operator[](std::size_t i) const { return values_[i]; }

  /// Calls visit(name, span of float or double, options) for each parameter, in the module's order; for those on a device see
  /// visit_remote.
  void for_each_parameter(auto&& visit) const {
    for (std::size_t i = 0; i < values_.size(); ++i) {
      at::Tensor const& t = values_[i];
      std::string_view const name = of_->names[i];
      auto const give = [&]<class T>(T /*type*/) {
        if (t.is_cpu())
          visit(name, std::span<T>(t.mutable_data_ptr<T>(), static_cast<std::size_t>(t.numel())), of_->options[i]);
        else visit_remote(visit, name, device_parameter<T>(const_cast<at::Tensor*>(&t)), of_->options[i]);
      };
      if (t.scalar_type() == at::kDouble) give(double());
      else give(float());
    }
  }

 private:
  std::shared_ptr<parameter_list const> of_;
  std::vector<at::Tensor> values_;
};

}  // namespace pipewright::inline v0::libtorch
