// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <pipewright/pipeline/parameter_operations.hpp>
#include <pipewright/stage/remote_parameter.hpp>

namespace pipewright::inline v0::detail {

/// By way of the host.
template<remote_parameter R> class remote_tied_gradient final : public tied_gradient_of<typename R::element> {
  using base = tied_gradient_of<typename R::element>;

 public:
  explicit remote_tied_gradient(std::size_t n) : base(n), host_(n) {}
  void load(void const* gradient, std::size_t n) override {
    R(const_cast<void*>(gradient)).read(host_);
    base::load(host_.data(), n);
  }
  void add_to(void* gradient, std::size_t n) const override {
    R here(gradient);
    here.read(host_);
    base::add_to(host_.data(), n);
    here.write(host_);
  }

 private:
  mutable std::vector<typename R::element> host_;
};

template<remote_parameter R> R remote_at(void const* address) { return R(const_cast<void*>(address)); }

/// An optimizer's update of remote values: there, where it can, else on the host.
template<remote_parameter R, std::size_t States>
void update_anywhere(auto const& optimizer, optimizer_step step, parameter_options options, R newest, R gradient,
                     R fresh, std::array<R, States> states) {
  if constexpr (requires { update_remote(optimizer, step, options, newest, gradient, fresh, states); }) {
    update_remote(optimizer, step, options, newest, gradient, fresh, states);
  } else {
    using number = typename R::element;
    auto const here = [](R there) {
      std::vector<number> copy(there.size());
      there.read(copy);
      return copy;
    };
    auto const old = here(newest), slope = here(gradient);
    std::vector<number> made(old.size());
    std::array<std::vector<number>, States> kept;
    std::array<std::span<number>, States> spans;
    for (std::size_t i = 0; i != States; ++i) spans[i] = kept[i] = here(states[i]);
    optimizer.update(step, options, std::span<number const>(old), std::span<number const>(slope),
                     std::span<number>(made), spans);
    fresh.write(made);
    for (std::size_t i = 0; i != States; ++i) states[i].write(kept[i]);
  }
}

template<remote_parameter R> consteval auto squares_later_of() -> late_number* (*)(void const*, std::size_t) {
  if constexpr (requires(R r) { r.squares_later(std::size_t{}); })
    return [](void const* gradient, std::size_t place) -> late_number* {
      return &remote_at<R>(gradient).squares_later(place);
    };
  else return nullptr;
}

template<class R, class Optimizer>
inline constexpr parameter_operations remote_operations{
    [](void const* optimizer, optimizer_step step, parameter_options options, std::size_t, void const* newest,
       void const* gradient, void* fresh, void* const* states) {
      auto const kept = [&]<std::size_t... I>(std::index_sequence<I...>) {
        return std::array<R, Optimizer::states>{R(states[I])...};
      }(std::make_index_sequence<Optimizer::states>{});
      update_anywhere(*static_cast<Optimizer const*>(optimizer), step, options, remote_at<R>(newest),
                      remote_at<R>(gradient), R(fresh), kept);
    },
    [](void* gradient, std::size_t) { R(gradient).clear(); },
    [](void const* gradient, std::size_t) { return remote_at<R>(gradient).squares(); },
    [](void const* from, void* to, std::size_t) { R(to).copy_from(remote_at<R>(from)); },
    [](void* a, void* b, std::size_t) { R(a).sum_with(R(b)); },
    [](void const* like, std::size_t) { return remote_at<R>(like).like(); },
    [](std::size_t n) -> std::unique_ptr<tied_gradient> { return std::make_unique<remote_tied_gradient<R>>(n); },
    sizeof(typename R::element),
    squares_later_of<R>(),
    [](void const* from, void* host, std::size_t n) {
      remote_at<R>(from).read(std::span(static_cast<typename R::element*>(host), n));
    },
    [](void const* host, void* to, std::size_t n) {
      R(to).write(std::span(static_cast<typename R::element const*>(host), n));
    },
};

template<remote_parameter R> void* address_of(R values) { return values.address(); }
template<class Optimizer, remote_parameter R> parameter_operations const* operations_of(R) {
  return &remote_operations<R, Optimizer>;
}

}  // namespace pipewright::inline v0::detail
