// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/pipeline/optimizer.hpp>
#include <pipewright/stage/stage.hpp>
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
  std::shared_ptr<void> (*zeros)(void const* like, std::size_t n);
  std::unique_ptr<tied_gradient> (*tie)(std::size_t n);
  std::size_t element_bytes;
  // Of remote ones, the first where they have it:
  late_number* (*squares_later)(void const* gradient, std::size_t place) = nullptr;
  void (*read)(void const* from, void* host, std::size_t n) = nullptr;
  void (*write)(void const* host, void* to, std::size_t n) = nullptr;
};

template<class T> class tied_gradient_of : public tied_gradient {
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
inline constexpr parameter_operations host_operations{
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
    [](void const*, std::size_t n) -> std::shared_ptr<void> { return std::shared_ptr<T[]>(new T[n]{}); },
    [](std::size_t n) -> std::unique_ptr<tied_gradient> { return std::make_unique<tied_gradient_of<T>>(n); },
    sizeof(T),
};

template<class T> void* address_of(std::span<T> values) { return values.data(); }
template<class Optimizer, class T> parameter_operations const* operations_of(std::span<T>) {
  return &host_operations<T, Optimizer>;
}

}  // namespace pipewright::inline v0::detail
