// SPDX-License-Identifier: Apache-2.0
#pragma once
// Boundaries of stages made of torch's modules: tensor; std::optional, std::vector, std::tuple and std::pair of boundaries;
// and any other type, which a module takes as it is and which has no gradient.

#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <pipewright/libtorch/tensor.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0::libtorch {

namespace detail {

/// What a boundary type is to a module (`form`: torch's own tensors) and to backward (`gradient`).
template<class T> struct boundary {
  using form = T;
  using gradient = nothing;
  static constexpr bool has_tensors = false;
};
template<> struct boundary<tensor> {
  using form = at::Tensor;
  using gradient = tensor;
  static constexpr bool has_tensors = true;
};
template<template<class...> class Holder, bool HasTensors, class... Each> struct boundary_of_several {
  using form = Holder<typename boundary<Each>::form...>;
  using gradient =
      typename std::conditional_t<HasTensors, std::type_identity<Holder<typename boundary<Each>::gradient...>>,
                                  std::type_identity<nothing>>::type;
  static constexpr bool has_tensors = HasTensors;
};
template<class T> using one = std::optional<T>;
template<class T> using run = std::vector<T>;
template<class T> struct boundary<std::optional<T>> : boundary_of_several<one, boundary<T>::has_tensors, T> {};
template<class T> struct boundary<std::vector<T>> : boundary_of_several<run, boundary<T>::has_tensors, T> {};
template<class A, class B>
struct boundary<std::pair<A, B>>
    : boundary_of_several<std::pair, boundary<A>::has_tensors || boundary<B>::has_tensors, A, B> {};
template<class... Each>
struct boundary<std::tuple<Each...>> : boundary_of_several<std::tuple, (boundary<Each>::has_tensors || ...), Each...> {
};

template<class T> inline constexpr bool is_optional = false;
template<class T> inline constexpr bool is_optional<std::optional<T>> = true;
template<class T> inline constexpr bool is_vector = false;
template<class T> inline constexpr bool is_vector<std::vector<T>> = true;

/// A value of type To with the structure of another, tensor by tensor: `tensor_of(from)` makes To's from From's. What has no
/// tensors is copied, or left out where To is `nothing`.
template<class To, class From> To rebuilt(From const& from, auto&& tensor_of) {
  if constexpr (std::is_same_v<To, nothing>) return {};
  else if constexpr (std::is_same_v<To, tensor> || std::is_same_v<To, at::Tensor>) return tensor_of(from);
  else if constexpr (std::is_same_v<To, From>) return from;
  else if constexpr (is_optional<To>) {
    To to;
    if (from.has_value()) to.emplace(rebuilt<typename To::value_type>(*from, tensor_of));
    return to;
  } else if constexpr (is_vector<To>) {
    To to;
    to.reserve(from.size());
    for (auto const& each : from) to.push_back(rebuilt<typename To::value_type>(each, tensor_of));
    return to;
  } else {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return To{rebuilt<std::tuple_element_t<I, To>>(std::get<I>(from), tensor_of)...};  // from left to right
    }(std::make_index_sequence<std::tuple_size_v<To>>{});
  }
}

/// Calls visit(tensor&) for every tensor of a boundary or a gradient, in order.
template<class T> void each_tensor(T& value, auto&& visit) {
  using plain = std::remove_const_t<T>;
  if constexpr (std::is_same_v<plain, tensor>) visit(value);
  else if constexpr (!boundary<plain>::has_tensors) return;
  else if constexpr (is_optional<plain>) {
    if (value.has_value()) each_tensor(*value, visit);
  } else if constexpr (is_vector<plain>) {
    for (auto& each : value) each_tensor(each, visit);
  } else std::apply([&](auto&... each) { (each_tensor(each, visit), ...); }, value);
}

}  // namespace detail

/// What a module sees of a boundary: at::Tensor for tensor, std::optional<at::Tensor> for std::optional<tensor>, and so on.
template<class T> using module_form = typename detail::boundary<T>::form;

/// The type of a boundary's gradient: tensors alike (undefined where a tensor has none), `nothing` for what has no tensors.
template<class T> using gradient_of = typename detail::boundary<T>::gradient;

}  // namespace pipewright::inline v0::libtorch
