// SPDX-License-Identifier: Apache-2.0
#pragma once
// Small stages for tests: a dense layer that keeps its input by pointer, one that copies it, dropout, a loss.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <pipewright/stage/stage.hpp>

namespace toys {

namespace pw = pipewright;
using numbers = std::vector<double>;

struct matrix {
  std::string name;
  numbers values;
  void for_each_parameter(auto&& visit) { visit(std::string_view{name}, std::span{values}, pw::parameter_options{}); }
};

// The name of layer `layer`'s weight, and values that differ from layer to layer.
inline void fill_matrix(matrix& w, int layer, std::size_t size) {
  w.name.assign("layer.").append(std::to_string(layer)).append(".weight");
  w.values.resize(size);
  for (std::size_t i = 0; i < size; ++i)
    w.values[i] = 0.1 + 0.3 * static_cast<double>((7 * i + 3 * layer) % 5) - 0.2 * layer;
}

// y = W x, a micro-batch of one row. Its saved values are a pointer into the input.
struct dense {
  int in = 2, out = 2;
  using input = numbers;
  using output = numbers;
  using weights = matrix;
  using gradients = matrix;
  struct saved {
    numbers const* x = nullptr;
  };
  static constexpr bool keeps_input = true;

  void initialize(pw::stage_context const& context, matrix& w) const {
    fill_matrix(w, context.layer, static_cast<std::size_t>(in * out));
  }
  void forward(auto&, matrix const& w, numbers const& x, numbers& y, saved& s) const {
    s.x = &x;
    y.assign(static_cast<std::size_t>(out), 0);
    for (int o = 0; o < out; ++o)
      for (int i = 0; i < in; ++i) y[o] += w.values[o * in + i] * x[i];
  }
  void backward(auto& c, matrix const& w, saved& s, numbers const& dy, numbers& dx, matrix& g) const {
    backward_input(c, w, s, dy, dx);
    backward_weight(c, w, s, dy, g);
  }
  void backward_input(auto&, matrix const& w, saved&, numbers const& dy, numbers& dx) const {
    dx.assign(static_cast<std::size_t>(in), 0);
    for (int o = 0; o < out; ++o)
      for (int i = 0; i < in; ++i) dx[i] += w.values[o * in + i] * dy[o];
  }
  void backward_weight(auto&, matrix const&, saved& s, numbers const& dy, matrix& g) const {
    for (int o = 0; o < out; ++o)
      for (int i = 0; i < in; ++i) g.values[o * in + i] += dy[o] * (*s.x)[i];
  }
};

// y = x^3, saving a copy of x; its backward comes whole only.
struct cube {
  using input = numbers;
  using output = numbers;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = numbers;

  void forward(auto&, weights const&, numbers const& x, numbers& y, numbers& s) const {
    s = x;
    y.resize(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * x[i] * x[i];
  }
  void backward(auto&, weights const&, numbers& s, numbers const& dy, numbers& dx, gradients&) const {
    dx.resize(s.size());
    for (std::size_t i = 0; i < s.size(); ++i) dx[i] = 3 * s[i] * s[i] * dy[i];
  }
};

// Dropout with a keyed mask that nobody saves.
struct drop {
  using input = numbers;
  using output = numbers;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = pw::nothing;

  void forward(auto& c, weights const&, numbers const& x, numbers& y, saved&) const {
    y.resize(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = kept(c, i) ? 2 * x[i] : 0;
  }
  void backward(auto& c, weights const& w, saved& s, numbers const& dy, numbers& dx, gradients&) const {
    backward_input(c, w, s, dy, dx);
  }
  void backward_input(auto& c, weights const&, saved&, numbers const& dy, numbers& dx) const {
    dx.resize(dy.size());
    for (std::size_t i = 0; i < dy.size(); ++i) dx[i] = kept(c, i) ? 2 * dy[i] : 0;
  }
  void backward_weight(auto&, weights const&, saved&, numbers const&, gradients&) const {}

 private:
  static bool kept(auto const& c, std::size_t i) { return !c.training || c.random().uniform(0, i) < 0.5f; }
};

// Half the squared distance to the target.
struct distance {
  using input = numbers;
  using target = numbers;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = numbers;

  pw::loss forward(auto&, weights const&, numbers const& x, numbers const& t, numbers& s) const {
    s.resize(x.size());
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      s[i] = x[i] - t[i];
      sum += s[i] * s[i] / 2;
    }
    return {.value = sum, .weight = static_cast<double>(x.size())};
  }
  void backward(auto& c, weights const& w, numbers& s, numbers& dx, gradients&) const { backward_input(c, w, s, dx); }
  void backward_input(auto&, weights const&, numbers& s, numbers& dx) const { dx = s; }
  void backward_weight(auto&, weights const&, numbers&, gradients&) const {}
};

static_assert(pw::stage<dense> && pw::split_backward_stage<dense> && pw::recomputable_stage<dense>);
static_assert(pw::stage<cube> && !pw::split_backward_stage<cube>);
static_assert(pw::stage<drop> && pw::split_backward_stage<drop>);
static_assert(pw::loss_stage<distance> && pw::split_backward_stage<distance> && !pw::stage<distance>);

}  // namespace toys
