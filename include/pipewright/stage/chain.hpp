// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include <pipewright/stage/explain.hpp>
#include <pipewright/stage/fit.hpp>
#include <pipewright/stage/layers.hpp>
#include <pipewright/stage/parameters.hpp>
#include <pipewright/stage/recompute.hpp>
#include <pipewright/transport/parts.hpp>

namespace pipewright::inline v0 {

/// The weights or the gradients of layers one after another.
template<class... Parts> struct layered_parameters {
  std::tuple<Parts...> layers;

  layered_parameters() = default;
  /// Gradients like these weights.
  template<class... Others>
  requires(sizeof...(Others) == sizeof...(Parts) && !std::same_as<layered_parameters<Others...>, layered_parameters>)
  explicit layered_parameters(layered_parameters<Others...> const& like)
      : layers{std::apply([](auto const&... each) { return std::tuple<Parts...>(like_of<Parts>(each)...); },
                          like.layers)} {}

  /// Layer by layer, in the order of the chain.
  void for_each_parameter(auto&& visit) {
    std::apply([&](auto&... each) { (each.for_each_parameter(visit), ...); }, layers);
  }

 private:
  template<class Part> static Part like_of(auto const& other) {
    if constexpr (std::constructible_from<Part, decltype(other)>) return Part(other);
    else return Part{};
  }
};

namespace detail {

template<class... Layers> consteval bool explain_chain() {
  static_assert(sizeof...(Layers) > 0, "pipewright: a chain has at least one layer; write chain{first, second, ...}");
  if constexpr (sizeof...(Layers) == 0) return false;
  else if constexpr (!(explain_stage<Layers>() && ...)) return false;
  else if constexpr ((marked_to_recompute<Layers> || ...)) {
    static_assert(
        !(marked_to_recompute<Layers> || ...),
        "pipewright: a schedule recomputes whole stages, not a layer of a chain; take recompute off the layer and "
        "write recompute<chain<...>>, or recompute_each(stages, mode) around a set of stages");
    return false;
  } else
    return []<std::size_t... I>(std::index_sequence<I...>) {
      using all = std::tuple<Layers...>;
      return (explain_fit<std::tuple_element_t<I, all>, static_cast<int>(I), std::tuple_element_t<I + 1, all>>() &&
              ... && true);
    }(std::make_index_sequence<sizeof...(Layers) - 1>{});
}

/// The far end of a chain, by its last layer.
template<class Last> struct chain_end {
  using output = typename Last::output;
  using output_gradient = output_gradient_t<Last>;
};
template<loss_stage Last> struct chain_end<Last> {
  using target = typename Last::target;
};
template<class Last> struct chain_end_arguments {
  using forward = typename Last::output&;
  using backward = output_gradient_t<Last>;
};
template<loss_stage Last> struct chain_end_arguments<Last> {
  using forward = typename Last::target const&;
  using backward = nothing;
};

/// What stands between two layers: kept with the saved values if the next layer may point into it, else passing through.
template<class Before, class After, bool Kept>
using boundary_if = std::conditional_t<keeps_input<After>() == Kept, typename Before::output, nothing>;

template<class All, class Indices> struct boundaries;
template<class All, std::size_t... I> struct boundaries<All, std::index_sequence<I...>> {
  template<bool Kept> using between =
      std::tuple<boundary_if<std::tuple_element_t<I, All>, std::tuple_element_t<I + 1, All>, Kept>...>;
  using gradients_between = std::tuple<output_gradient_t<std::tuple_element_t<I, All>>...>;
};

template<class... Layers> class layer_chain
    : public chain_end<std::tuple_element_t<sizeof...(Layers) - 1, std::tuple<Layers...>>> {
  using all = std::tuple<Layers...>;
  static constexpr std::size_t count = sizeof...(Layers);
  template<std::size_t I> using layer = std::tuple_element_t<I, all>;
  using first = layer<0>;
  using last = layer<count - 1>;
  using end = chain_end_arguments<last>;
  using middle = boundaries<all, std::make_index_sequence<count - 1>>;
  static constexpr bool ends_in_loss = loss_stage<last>;
  static constexpr bool splits = (split_backward_stage<Layers> && ...);
  static constexpr bool counts_layers = (layers_known<Layers> && ...);

 public:
  using input = typename first::input;
  using input_gradient = input_gradient_t<first>;
  using weights = layered_parameters<typename Layers::weights...>;
  using gradients = layered_parameters<typename Layers::gradients...>;
  struct saved {
    std::tuple<typename Layers::saved...> layers;
    typename middle::template between<true> between;
    std::conditional_t<splits, typename middle::gradients_between, std::tuple<>> gradients_between;  ///< from I to W

    void for_each_part(auto&& visit)
        requires(has_parts<std::tuple<typename Layers::saved...>> && has_parts<decltype(between)>) {
      visit(layers);
      visit(between);
      if constexpr (has_parts<decltype(gradients_between)>) visit(gradients_between);
    }
  };
  static constexpr bool keeps_input = pipewright::keeps_input<first>();
  static constexpr bool recomputable = (recomputable_stage<Layers> && ...);

  layer_chain() = default;
  explicit layer_chain(Layers... layers) : layers_{std::move(layers)...} {}

  static constexpr int layers() requires counts_layers { return (layers_of<Layers>() + ...); }
  constexpr int layers() const requires(!counts_layers) { return layers_before<count>(); }

  void initialize(stage_context const& context, weights& w) {
    stage_context here = context;
    each([&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
      here.layer = context.layer + layers_before<I>();
      pipewright::initialize(std::get<I>(layers_), here, std::get<I>(w.layers));
    });
  }

  /// The loss where the chain ends in a loss stage, else nothing; `y` is the target or the output.
  auto forward(auto& context, weights const& w, input const& x, typename end::forward y, saved& s)
      -> std::conditional_t<ends_in_loss, loss, void> {
    layer_walk walk{context};
    return forward_from<0>(walk, w, x, y, s);
  }

  void backward(auto& context, weights const& w, saved& s, typename end::backward const& dy, input_gradient& dx,
                gradients& g) requires(!ends_in_loss) {
    layer_walk walk{context};
    backward_to<count - 1>(walk, w, s, dx, g, dy);
  }
  void backward(auto& context, weights const& w, saved& s, input_gradient& dx, gradients& g) requires ends_in_loss {
    layer_walk walk{context};
    backward_to<count - 1>(walk, w, s, dx, g);
  }

  void backward_input(auto& context, weights const& w, saved& s, typename end::backward const& dy, input_gradient& dx)
      requires(splits && !ends_in_loss) {
    layer_walk walk{context};
    backward_input_to<count - 1>(walk, w, s, dx, dy);
  }
  void backward_input(auto& context, weights const& w, saved& s, input_gradient& dx) requires(splits && ends_in_loss) {
    layer_walk walk{context};
    backward_input_to<count - 1>(walk, w, s, dx);
  }
  void backward_weight(auto& context, weights const& w, saved& s, typename end::backward const& dy, gradients& g)
      requires(splits && !ends_in_loss) {
    layer_walk walk{context};
    backward_weight_to<count - 1>(walk, w, s, g, dy);
  }
  void backward_weight(auto& context, weights const& w, saved& s, gradients& g) requires(splits && ends_in_loss) {
    layer_walk walk{context};
    backward_weight_to<count - 1>(walk, w, s, g);
  }

 private:
  static void each(auto&& visit) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (visit(std::integral_constant<std::size_t, I>{}), ...);
    }(std::make_index_sequence<count>{});
  }

  template<std::size_t N> constexpr int layers_before() const {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return (layers_of(std::get<I>(layers_)) + ... + 0);
    }(std::make_index_sequence<N>{});
  }

  template<std::size_t I> auto forward_from(auto& walk, weights const& w, typename layer<I>::input const& x,
                                            typename end::forward y, saved& s)
      -> std::conditional_t<ends_in_loss, loss, void> {
    auto& here = std::get<I>(layers_);
    auto& context = walk.at(layers_before<I>());
    if constexpr (I + 1 == count) {
      return here.forward(context, std::get<I>(w.layers), x, y, std::get<I>(s.layers));
    } else {
      auto& between = [&]() -> auto& {
        if constexpr (pipewright::keeps_input<layer<I + 1>>()) return std::get<I>(s.between);
        else return std::get<I>(passing_);
      }();
      here.forward(context, std::get<I>(w.layers), x, between, std::get<I>(s.layers));
      return forward_from<I + 1>(walk, w, between, y, s);
    }
  }

  // `dy` is the output gradient of layer I, or nothing at all if that is the loss.
  template<std::size_t I> void backward_to(auto& walk, weights const& w, saved& s, input_gradient& dx, gradients& g,
                                           auto const&... dy) {
    auto& here = std::get<I>(layers_);
    auto& context = walk.at(layers_before<I>());
    if constexpr (I == 0) {
      here.backward(context, std::get<0>(w.layers), std::get<0>(s.layers), dy..., dx, std::get<0>(g.layers));
    } else {
      auto& between = std::get<I - 1>(passing_gradients_);
      here.backward(context, std::get<I>(w.layers), std::get<I>(s.layers), dy..., between, std::get<I>(g.layers));
      backward_to<I - 1>(walk, w, s, dx, g, between);
    }
  }

  template<std::size_t I> void backward_input_to(auto& walk, weights const& w, saved& s, input_gradient& dx,
                                                 auto const&... dy) {
    auto& here = std::get<I>(layers_);
    auto& context = walk.at(layers_before<I>());
    if constexpr (I == 0) {
      here.backward_input(context, std::get<0>(w.layers), std::get<0>(s.layers), dy..., dx);
    } else {
      auto& between = std::get<I - 1>(s.gradients_between);
      here.backward_input(context, std::get<I>(w.layers), std::get<I>(s.layers), dy..., between);
      backward_input_to<I - 1>(walk, w, s, dx, between);
    }
  }

  template<std::size_t I> void backward_weight_to(auto& walk, weights const& w, saved& s, gradients& g,
                                                  auto const&... dy) {
    std::get<I>(layers_).backward_weight(walk.at(layers_before<I>()), std::get<I>(w.layers), std::get<I>(s.layers),
                                         dy..., std::get<I>(g.layers));
    if constexpr (I > 0) backward_weight_to<I - 1>(walk, w, s, g, std::get<I - 1>(s.gradients_between));
  }

  all layers_;
  // One thread runs a stage, one action at a time, so what only passes through needs one place.
  typename middle::template between<false> passing_;
  typename middle::gradients_between passing_gradients_;
};

struct not_a_chain {
  not_a_chain(auto&&...) {}
};
template<bool Fits, class... Layers> struct chain_base {
  using type = layer_chain<Layers...>;
};
template<class... Layers> struct chain_base<false, Layers...> {
  using type = not_a_chain;
};

}  // namespace detail

/// Layers one after another, as one stage; a loss stage if the last layer is one. Each layer's output is the next one's
/// input, gradients likewise: checked by the compiler, with a sentence that names the positions and types.
/// Weights, gradients and saved values are those of its layers, `context.layer` walks from layer to layer, backward comes
/// in halves if every layer's does, and forward may run twice if every layer's may. A boundary between two layers stays
/// with the saved values if the next layer says `keeps_input`, else its memory is used again at once. Allocates nothing
/// once its layers do not. Copies are independent stages.
template<class... Layers> class chain : public detail::chain_base<detail::explain_chain<Layers...>(), Layers...>::type {
  using base = typename detail::chain_base<detail::explain_chain<Layers...>(), Layers...>::type;

 public:
  using base::base;
};
template<class... Layers> chain(Layers...) -> chain<Layers...>;

}  // namespace pipewright::inline v0
