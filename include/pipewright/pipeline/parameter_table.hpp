// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/pipeline/optimizer.hpp>
#include <pipewright/stage/parameters.hpp>
#include <pipewright/transport/message.hpp>

namespace pipewright::inline v0::detail {

/// A gradient on its way to the other stage of a tie. Type-erased over the element.
class tied_gradient {
 public:
  virtual ~tied_gradient() = default;
  virtual message slot() = 0;
  virtual void load(void const* gradient, std::size_t n) = 0;  ///< before it is sent
  virtual void add_to(void* gradient,
                      std::size_t n) const = 0;  ///< after it was received; throws unless it has that many elements
};

/// What an engine does with one parameter, its element type and the optimizer's type forgotten.
struct parameter_operations {
  void (*update)(void const* optimizer, optimizer_step, parameter_options, std::size_t n, void const* newest,
                 void const* gradient, void* fresh, void* const* states);
  void (*clear)(void* gradient, std::size_t n);
  double (*squares)(void const* gradient, std::size_t n);
  void (*copy)(void const* from, void* to, std::size_t n);
  void (*sum_both)(void* a, void* b, std::size_t n);  ///< both become a + b
  std::shared_ptr<void> (*zeros)(std::size_t n);
  std::unique_ptr<tied_gradient> (*tie)(std::size_t n);
  std::size_t element_bytes;
};

template<class T> class tied_gradient_of final : public tied_gradient {
 public:
  explicit tied_gradient_of(std::size_t n) : values_(n) {}
  message slot() override { return message_of(values_); }
  void load(void const* gradient, std::size_t n) override {
    values_.assign(static_cast<T const*>(gradient), static_cast<T const*>(gradient) + n);
  }
  void add_to(void* gradient, std::size_t n) const override {
    if (values_.size() != n)
      throw error("a tied parameter has " + std::to_string(n) + " elements here and " + std::to_string(values_.size()) +
                  " at the other stage; tie two of one size");
    for (std::size_t i = 0; i < n; ++i) static_cast<T*>(gradient)[i] += values_[i];
  }

 private:
  std::vector<T> values_;
};

template<class T, class Optimizer>
inline constexpr parameter_operations operations_on{
    [](void const* optimizer, optimizer_step step, parameter_options options, std::size_t n, void const* newest,
       void const* gradient, void* fresh, void* const* states) {
      std::array<std::span<T>, Optimizer::states> kept;
      for (std::size_t i = 0; i != kept.size(); ++i) kept[i] = {static_cast<T*>(states[i]), n};
      static_cast<Optimizer const*>(optimizer)->update(
          step, options, std::span<T const>(static_cast<T const*>(newest), n),
          std::span<T const>(static_cast<T const*>(gradient), n), std::span<T>(static_cast<T*>(fresh), n), kept);
    },
    [](void* gradient, std::size_t n) { std::fill_n(static_cast<T*>(gradient), n, T{}); },
    [](void const* gradient, std::size_t n) {
      double sum = 0;
      for (std::size_t i = 0; i < n; ++i) {
        double const g = static_cast<double>(static_cast<T const*>(gradient)[i]);
        sum += g * g;
      }
      return sum;
    },
    [](void const* from, void* to, std::size_t n) { std::copy_n(static_cast<T const*>(from), n, static_cast<T*>(to)); },
    [](void* a, void* b, std::size_t n) {
      for (std::size_t i = 0; i < n; ++i)
        static_cast<T*>(a)[i] = static_cast<T*>(b)[i] = static_cast<T*>(a)[i] + static_cast<T*>(b)[i];
    },
    [](std::size_t n) -> std::shared_ptr<void> { return std::shared_ptr<T[]>(new T[n]{}); },
    [](std::size_t n) -> std::unique_ptr<tied_gradient> { return std::make_unique<tied_gradient_of<T>>(n); },
    sizeof(T),
};

/// One parameter of a stage, wherever its versions, gradients and optimizer states are.
struct parameter_record {
  std::string name;
  parameter_options options;
  std::size_t size = 0;  ///< elements
  parameter_operations const* on = nullptr;
  std::vector<void*> versions;
  std::vector<void*> gradients;
  std::vector<void*> states;
  std::vector<std::shared_ptr<void>> kept;  ///< owns the states

  /// The values of a version, by its physical copy.
  template<class T> std::span<T> version(int copy) const {
    return {static_cast<T*>(versions[static_cast<std::size_t>(copy)]), size};
  }
  /// What the optimizer keeps, each array as long as the parameter.
  template<class T, std::size_t States> std::array<std::span<T>, States> kept_by_optimizer() const {
    std::array<std::span<T>, States> all;
    for (std::size_t i = 0; i != States; ++i) all[i] = {static_cast<T*>(states[i]), size};
    return all;
  }
};

/// The parameters of a stage, collected once: nothing is looked up or allocated afterwards. `versions` and `gradients` stay
/// where they are.
template<class Optimizer, class Weights, class Gradients>
std::vector<parameter_record> parameters_of(std::vector<Weights>& versions, std::vector<Gradients>& gradients) {
  std::vector<parameter_record> table;
  for (Weights& w : versions) {
    std::size_t i = 0;
    w.for_each_parameter([&](std::string_view name, auto values, parameter_options options) {
      using element = typename decltype(values)::value_type;
      if (&w == &versions.front()) {
        parameter_record& made = table.emplace_back();
        made.name = name;
        made.options = options;
        made.size = values.size();
        made.on = &operations_on<element, Optimizer>;
        for (std::size_t s = 0; s != Optimizer::states; ++s)
          made.states.push_back(made.kept.emplace_back(made.on->zeros(made.size)).get());
      }
      table[i++].versions.push_back(values.data());
    });
  }
  for (Gradients& g : gradients) {
    std::size_t i = 0;
    g.for_each_parameter([&](std::string_view name, auto values, parameter_options) {
      if (i >= table.size() || values.size() != table[i].size)
        throw error("gradients visit other parameters than weights at " + std::string(name) +
                    "; for_each_parameter of both must agree in order and size");
      table[i++].gradients.push_back(values.data());
    });
    if (i != table.size())
      throw error(
          "gradients visit fewer parameters than weights; for_each_parameter of both must agree in order and size");
  }
  return table;
}

}  // namespace pipewright::inline v0::detail
