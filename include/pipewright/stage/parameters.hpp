// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>

#include <pipewright/stage/remote_parameter.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0 {

/// The gradients of some weights, all zero: made from the weights where they can be, else by default construction.
/// Parameters in the same order as the weights'.
template<any_kind_of_stage S> auto make_gradients(typename S::weights const& weights) -> typename S::gradients {
  using gradients = typename S::gradients;
  gradients made = [&] {
    if constexpr (std::constructible_from<gradients, typename S::weights const&>) return gradients(weights);
    else return gradients{};
  }();
  made.for_each_parameter(detail::keeping{[](std::string_view, auto values, parameter_options) {
    if constexpr (remote_parameter<decltype(values)>) values.clear();
    else std::fill(values.begin(), values.end(), typename decltype(values)::value_type{});
  }});
  return made;
}

/// Calls stage.initialize(context, weights) where the stage has such a function; else the weights stay as they were made.
template<class S> void initialize(S& stage, stage_context const& context, typename S::weights& weights) {
  if constexpr (requires { stage.initialize(context, weights); }) stage.initialize(context, weights);
}

/// How many numbers there are in some weights or gradients.
template<visitable_parameters T> std::size_t count_parameters(T& parameters) {
  std::size_t count = 0;
  parameters.for_each_parameter([&](std::string_view, auto values, parameter_options) { count += values.size(); });
  return count;
}

}  // namespace pipewright::inline v0
