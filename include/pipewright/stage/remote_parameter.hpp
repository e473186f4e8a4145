// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0 {

/// A parameter, a gradient or an optimizer's state that lies where only code of its own reaches it (a GPU's memory): what the
/// engine works with in place of a span.
/// Needs: (1) R(address) and address(), a void* by which the same elements are found as long as their owner is there; (2)
/// size() and `element`; (3) clear(), squares() (their sum, not finite where an element is not), copy_from(R), sum_with(R),
/// after which both are the sum; (4) read(span) and write(span), to and from the host; (5) like(), as many zeros
/// in the same place, kept by a shared pointer whose get() is their address.
/// Promises: each takes effect after what this thread did before, on the same memory and stream.
/// Not required: bytes(), where it takes more than its elements do; squares_later(i) -> late_number&, the same as squares() without
/// waiting, kept until the i-th is asked for again; an optimizer. `update_remote(optimizer, optimizer_step, parameter_options, R newest, R gradient, R fresh,
/// std::array<R, states>)`, found by argument-dependent lookup, is one that works there; others work on copies on the host.
/// Minimal model: libtorch::device_parameter.
template<class R>
concept remote_parameter =
    std::copyable<R> && std::constructible_from<R, void*> &&
    requires(R r, R const c, std::span<typename R::element> to, std::span<typename R::element const> from) {
      { c.address() } -> std::same_as<void*>;
      { c.size() } -> std::convertible_to<std::size_t>;
      { c.squares() } -> std::same_as<double>;
      { c.like() } -> std::same_as<std::shared_ptr<void>>;
      r.clear();
      r.copy_from(c);
      r.sum_with(r);
      c.read(to);
      r.write(from);
    };

namespace detail {

/// A visitor of parameters that goes on using the addresses it is given; so that it takes remote ones or none, but no copy.
template<class Visit> struct keeping : Visit {
  using Visit::operator();
  static constexpr bool keeps_addresses = true;
};
template<class Visit> keeping(Visit) -> keeping<Visit>;

template<class Visit>
concept keeps_addresses = requires { std::remove_cvref_t<Visit>::keeps_addresses; };

}  // namespace detail

/// What for_each_parameter calls for a remote one: hands it to a visitor that takes it, a copy on the host to others. Throws
/// error where a visitor goes on using host addresses (any_stage's, the serial oracle's).
template<remote_parameter R>
void visit_remote(auto& visit, std::string_view name, R values, parameter_options options) {
  if constexpr (!detail::keeps_addresses<decltype(visit)>) {
    std::vector<typename R::element> here(values.size());
    values.read(here);
    visit(name, std::span<typename R::element>(here), options);
    values.write(here);
  } else if constexpr (std::invocable<decltype(visit), std::string_view, R, parameter_options>) {
    visit(name, values, options);
  } else {
    throw error("parameter " + std::string(name) +
                " is not in the host's memory, and any_stage and the serial oracle take no other; name the stage's own "
                "type, or "
                "put its parameters there");
  }
}

}  // namespace pipewright::inline v0
