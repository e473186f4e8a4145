// SPDX-License-Identifier: Apache-2.0
#pragma once
// P stages y = w x of one number each, the last of which gives the loss y^2 / 2. On dyadic numbers every result is exact.

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include <pipewright/stage/stage_set.hpp>

namespace toys {

namespace pw = pipewright;

struct scalar {
  double value = 1;
  void for_each_parameter(auto&& visit) { visit(std::string_view{"w"}, std::span{&value, 1}, pw::parameter_options{}); }
};

struct scaling {
  using input = double;
  using output = double;
  using weights = scalar;
  using gradients = scalar;
  using saved = double;

  double initial = 1;

  void initialize(pw::stage_context const&, scalar& w) const { w.value = initial; }
  void forward(auto&, scalar const& w, double const& x, double& y, double& s) const {
    s = x;
    y = w.value * x;
  }
  void backward(auto& c, scalar const& w, double& s, double const& dy, double& dx, scalar& g) const {
    backward_input(c, w, s, dy, dx);
    backward_weight(c, w, s, dy, g);
  }
  void backward_input(auto&, scalar const& w, double&, double const& dy, double& dx) const { dx = w.value * dy; }
  void backward_weight(auto&, scalar const&, double& s, double const& dy, scalar& g) const { g.value += dy * s; }
};

struct half_square {
  using input = double;
  using target = pw::nothing;
  using weights = scalar;
  using gradients = scalar;
  struct saved {
    double x = 0, y = 0;
  };

  double initial = 1;

  void initialize(pw::stage_context const&, scalar& w) const { w.value = initial; }
  pw::loss forward(auto&, scalar const& w, double const& x, target const&, saved& s) const {
    s = {x, w.value * x};
    return {.value = s.y * s.y / 2};
  }
  void backward(auto& c, scalar const& w, saved& s, double& dx, scalar& g) const {
    backward_input(c, w, s, dx);
    backward_weight(c, w, s, g);
  }
  void backward_input(auto&, scalar const& w, saved& s, double& dx) const { dx = w.value * s.y; }
  void backward_weight(auto&, scalar const&, saved& s, scalar& g) const { g.value += s.y * s.x; }
};

/// As many stages as there are initial weights.
struct scalar_model {
  std::vector<double> initial;

  using input = double;
  using last = half_square;
  int size() const { return static_cast<int>(initial.size()); }
  void visit(int index, auto&& f) const {
    double const w = initial[static_cast<std::size_t>(index)];
    if (index + 1 == size()) f(half_square{w});
    else f(scaling{w});
  }
};

/// Micro-batch m of a step is the number inputs[first + m], from the start again at the end.
struct scalar_batch {
  std::vector<double> inputs;
  int first = 0;
  void input(int micro_batch, double& x) const {
    x = inputs[static_cast<std::size_t>(first + micro_batch) % inputs.size()];
  }
  void target(int, pw::nothing&) const {}
};

}  // namespace toys
