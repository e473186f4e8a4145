// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <type_traits>

#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0 {

namespace detail {
template<class S>
concept has_constant_layers = requires { typename std::integral_constant<int, S::layers>; };
template<class S>
concept has_constant_layer_function = requires { typename std::integral_constant<int, S::layers()>; };
template<class S>
concept has_layer_function = requires(S const s) {
  { s.layers() } -> std::convertible_to<int>;
};
}  // namespace detail

/// A stage whose number of layers is part of its type: `static constexpr int layers`, a static constexpr function
/// `layers()`, or neither, which means one. Others have a member function `layers()`.
template<class S>
concept layers_known = detail::has_constant_layer_function<S> || !detail::has_layer_function<S>;

/// How many layers of the model a stage is.
template<class S> constexpr int layers_of(S const& stage) {
  if constexpr (detail::has_layer_function<S>) return stage.layers();
  else if constexpr (detail::has_constant_layers<S>) return S::layers;
  else return 1;
}
/// The same from the type alone.
template<layers_known S> constexpr int layers_of() {
  if constexpr (detail::has_constant_layer_function<S>) return S::layers();
  else if constexpr (detail::has_constant_layers<S>) return S::layers;
  else return 1;
}

/// Whether a stage's saved values may point into its input, which then stays until backward has run.
template<class S> constexpr bool keeps_input() {
  if constexpr (requires {
                  { S::keeps_input } -> std::convertible_to<bool>;
                })
    return S::keeps_input;
  else return false;
}

/// A stage that knows where in the model it stands. What a stage set builds.
template<class S> struct placed : S {
  int first_layer = 0;  ///< index of its first layer in the whole model, whatever the cut
};

namespace detail {

/// Lets the context's layer walk, and puts it back.
template<class Context> class layer_walk {
 public:
  explicit layer_walk(Context& context) : context_{context}, first_{context.layer} {}
  layer_walk(layer_walk const&) = delete;
  layer_walk& operator=(layer_walk const&) = delete;
  ~layer_walk() { context_.layer = first_; }

  /// The context, seen from the layer that many layers after the first.
  Context& at(int offset) {
    context_.layer = first_ + offset;
    return context_;
  }

 private:
  Context& context_;
  int first_;
};

}  // namespace detail

}  // namespace pipewright::inline v0
