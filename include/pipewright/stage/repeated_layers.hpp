// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include <pipewright/stage/explain.hpp>
#include <pipewright/stage/fit.hpp>
#include <pipewright/stage/layers.hpp>
#include <pipewright/stage/parameters.hpp>
#include <pipewright/transport/parts.hpp>

namespace pipewright::inline v0 {

/// The weights or the gradients of n layers of one type.
template<class Part> struct repeated_parameters {
  std::vector<Part> layers;

  repeated_parameters() = default;
  /// Gradients like these weights.
  template<class Other>
  requires(!std::same_as<Other, Part>) explicit repeated_parameters(repeated_parameters<Other> const& like) {
    layers.reserve(like.layers.size());
    for (Other const& each : like.layers)
      if constexpr (std::constructible_from<Part, Other const&>) layers.push_back(Part(each));
      else layers.push_back(Part{});
  }

  /// Layer by layer.
  void for_each_parameter(auto&& visit) {
    for (Part& each : layers) each.for_each_parameter(visit);
  }
};

/// n layers of one type one after another, n >= 1 and known at run time; for use as a layer of a chain. One type whatever
/// n is, so that cuts chosen at run time need few stage types. A layer's output has the type of its input.
/// As chain does: boundaries between the layers stay with the saved values only where the layers say `keeps_input`, and
/// nothing is allocated once the layers allocate nothing. Copies are independent.
template<stage Layer> class repeated_layers {
  static_assert(explain_fit<Layer, 0, Layer, 0>() || true);  // it says so itself
  static constexpr bool splits = split_backward_stage<Layer>;

 public:
  using input = typename Layer::input;
  using output = input;
  using input_gradient = input_gradient_t<Layer>;
  using output_gradient = input_gradient;
  using weights = repeated_parameters<typename Layer::weights>;
  using gradients = repeated_parameters<typename Layer::gradients>;
  struct saved {
    std::vector<typename Layer::saved> layers;
    std::vector<input> between;                     ///< empty unless the layers keep their input
    std::vector<input_gradient> gradients_between;  ///< from I to W; empty where backward is whole

    void for_each_part(auto&& visit)
        requires(has_parts<typename Layer::saved> && has_parts<input> && has_parts<input_gradient>) {
      visit(layers);
      visit(between);
      visit(gradients_between);
    }
  };
  static constexpr bool keeps_input = pipewright::keeps_input<Layer>();
  static constexpr bool recomputable = recomputable_stage<Layer>;

  /// At least one layer.
  explicit repeated_layers(std::vector<Layer> layers) : layers_{std::move(layers)} {}

  constexpr int layers() const {
    int sum = 0;
    for (Layer const& each : layers_) sum += layers_of(each);
    return sum;
  }

  void initialize(stage_context const& context, weights& w) {
    w.layers.resize(size());
    stage_context here = context;
    for (std::size_t i = 0; i < size(); ++i) {
      pipewright::initialize(layers_[i], here, w.layers[i]);
      here.layer += layers_of(layers_[i]);
    }
  }

  void forward(auto& context, weights const& w, input const& x, output& y, saved& s) {
    detail::layer_walk walk{context};
    s.layers.resize(size());
    if constexpr (keeps_input) s.between.resize(size() - 1);
    input const* in = &x;
    int offset = 0;
    for (std::size_t i = 0; i < size(); ++i) {
      output* const out = i + 1 == size() ? &y : keeps_input ? &s.between[i] : &passing_[i % 2];
      layers_[i].forward(walk.at(offset), w.layers[i], *in, *out, s.layers[i]);
      offset += layers_of(layers_[i]);
      in = out;
    }
  }

  void backward(auto& context, weights const& w, saved& s, output_gradient const& dy, input_gradient& dx,
                gradients& g) {
    detail::layer_walk walk{context};
    output_gradient const* from = &dy;
    int offset = layers();
    for (std::size_t i = size(); i-- > 0;) {
      offset -= layers_of(layers_[i]);
      input_gradient* const to = i == 0 ? &dx : &passing_gradients_[i % 2];
      layers_[i].backward(walk.at(offset), w.layers[i], s.layers[i], *from, *to, g.layers[i]);
      from = to;
    }
  }

  void backward_input(auto& context, weights const& w, saved& s, output_gradient const& dy, input_gradient& dx)
      requires splits {
    detail::layer_walk walk{context};
    s.gradients_between.resize(size() - 1);
    int offset = layers();
    for (std::size_t i = size(); i-- > 0;) {
      offset -= layers_of(layers_[i]);
      layers_[i].backward_input(walk.at(offset), w.layers[i], s.layers[i],
                                i + 1 == size() ? dy : s.gradients_between[i],
                                i == 0 ? dx : s.gradients_between[i - 1]);
    }
  }

  void backward_weight(auto& context, weights const& w, saved& s, output_gradient const& dy, gradients& g)
      requires splits {
    detail::layer_walk walk{context};
    int offset = layers();
    for (std::size_t i = size(); i-- > 0;) {
      offset -= layers_of(layers_[i]);
      layers_[i].backward_weight(walk.at(offset), w.layers[i], s.layers[i],
                                 i + 1 == size() ? dy : s.gradients_between[i], g.layers[i]);
    }
  }

 private:
  std::size_t size() const { return layers_.size(); }

  std::vector<Layer> layers_;
  // What only passes through: the layer before reads one while the next is written.
  input passing_[2];
  input_gradient passing_gradients_[2];
};

}  // namespace pipewright::inline v0
