// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include <pipewright/stage/parameters.hpp>
#include <pipewright/stage/remote_parameter.hpp>

namespace pipewright::inline v0::detail {

/// A value whose type only its user knows; made at its first use, then used again.
class any_value {
 public:
  template<class T> T& as() {
    if (value_ == nullptr) value_ = {new T{}, [](void* value) { delete static_cast<T*>(value); }};
    return *static_cast<T*>(value_.get());
  }

 private:
  std::unique_ptr<void, void (*)(void*)> value_{nullptr, [](void*) {}};
};

/// A reference to something that visits parameters.
template<class Element> struct parameter_visit {
  void* visitor;
  void (*call)(void*, std::string_view, std::span<Element>, parameter_options);
};

/// Weights or gradients whose type only their stage knows. Copies are deep.
template<class Element> class any_parameters {
  struct base {
    virtual ~base() = default;
    virtual std::unique_ptr<base> copy() const = 0;
    virtual std::unique_ptr<base> gradients() const = 0;
    virtual void visit(parameter_visit<Element>) = 0;
  };
  template<class T, class Gradients> struct holder final : base {
    T value;
    explicit holder(T from) : value(std::move(from)) {}
    std::unique_ptr<base> copy() const override { return std::make_unique<holder>(value); }
    std::unique_ptr<base> gradients() const override {
      if constexpr (std::constructible_from<Gradients, T const&>)
        return std::make_unique<holder<Gradients, Gradients>>(Gradients(value));
      else return std::make_unique<holder<Gradients, Gradients>>(Gradients{});
    }
    void visit(parameter_visit<Element> visit) override {
      value.for_each_parameter(
          keeping{[&]<class T2>(std::string_view name, std::span<T2> values, parameter_options options) {
            static_assert(std::same_as<T2, Element>,
                          "pipewright: any_stage<Input, Output, Element> holds stages whose parameters "
                          "are spans of Element; name their type there (float unless you do)");
            visit.call(visit.visitor, name, values, options);
          }});
    }
  };

 public:
  any_parameters() = default;
  any_parameters(any_parameters const& other) : value_{other.value_ ? other.value_->copy() : nullptr} {}
  any_parameters(any_parameters&&) noexcept = default;
  any_parameters& operator=(any_parameters other) noexcept {
    value_.swap(other.value_);
    return *this;
  }

  template<class Weights, class Gradients> Weights& make() {
    auto made = std::make_unique<holder<Weights, Gradients>>(Weights{});
    Weights& weights = made->value;
    value_ = std::move(made);
    return weights;
  }
  /// The type is the one it was made with.
  template<class T, class Gradients> T& as() const { return static_cast<holder<T, Gradients>&>(*value_).value; }

  any_parameters gradients() const {
    any_parameters made;
    if (value_) made.value_ = value_->gradients();
    return made;
  }

  template<class Visit> void for_each_parameter(Visit&& visit) {
    if (value_ == nullptr) return;
    value_->visit(
        {&visit, [](void* visitor, std::string_view name, std::span<Element> values, parameter_options options) {
           (*static_cast<std::remove_reference_t<Visit>*>(visitor))(name, values, options);
         }});
  }

 private:
  std::unique_ptr<base> value_;
};

/// What any_stage and any_loss_stage share: their weights, gradients and saved values.
template<class Element> struct any_stage_types {
  using weights = any_parameters<Element>;
  /// Made from weights.
  struct gradients : weights {
    gradients() = default;
    explicit gradients(weights const& like) : weights(like.gradients()) {}
  };
  using saved = any_value;
  static constexpr bool keeps_input = true;  // the stage inside may
};

}  // namespace pipewright::inline v0::detail
