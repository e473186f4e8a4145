// SPDX-License-Identifier: Apache-2.0
#pragma once
// Modules that are hard on a stage.

#include <cmath>
#include <cstdint>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include <pipewright/libtorch/random.hpp>
#include <pipewright/libtorch/summing.hpp>

#include "numbers.hpp"

namespace test {

/// Parameters from numbers(), not from torch's generator.
template<class M> M set(M module, at::ScalarType as = at::kDouble) {
  module->to(as);
  torch::NoGradGuard const no_graph;
  double first = 0.2;
  for (auto& each : module->parameters())
    each.copy_(*numbers({each.sizes().begin(), each.sizes().end()}, first += 0.6, as) * 0.5);
  return module;
}

/// A transformer's block without attention: what saves its leaves (norms), views, a residual, keyed dropout.
struct mixer : torch::nn::Module {
  torch::nn::LayerNorm norm{nullptr};
  torch::nn::Linear wide{nullptr}, narrow{nullptr};
  double dropout;

  explicit mixer(std::int64_t width, double p = 0.0)
      : norm{register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({width})))},
        wide{register_module("wide", torch::nn::Linear(width, 2 * width))},
        narrow{register_module("narrow", torch::nn::Linear(2 * width, width))},
        dropout{p} {}
  at::Tensor forward(at::Tensor const& x) {
    auto const middle = torch::tanh(wide(norm(x)));
    return x + lt::keyed_dropout(narrow(middle), 3, dropout);
  }
};

/// One weight used twice, a weight that is computed (v * g), and one that the output takes past the input.
struct sharer : torch::nn::Module {
  at::Tensor v, g, twice, past, frozen;
  explicit sharer(std::int64_t n)
      : v{register_parameter("v", torch::empty({n, n}))},
        g{register_parameter("g", torch::empty({n, 1}))},
        twice{register_parameter("twice", torch::empty({n}))},
        past{register_parameter("past", torch::empty({n}))} {}
  std::tuple<at::Tensor, at::Tensor> forward(at::Tensor const& x) {
    auto const y = torch::linear(x * twice, v * g) * twice;
    return {y, past * past};
  }
};

/// Takes and gives several things: tensors, a mask that may be absent, a number.
struct brancher : torch::nn::Module {
  torch::nn::Linear linear{nullptr};
  explicit brancher(std::int64_t n) : linear{register_module("linear", torch::nn::Linear(n, n))} {}
  std::tuple<at::Tensor, std::optional<at::Tensor>, std::vector<at::Tensor>, int> forward(
      at::Tensor const& x, std::optional<at::Tensor> const& mask, std::vector<at::Tensor> const& more, int count) {
    auto y = linear(x);
    for (auto const& each : more) y = y * each;
    if (mask) y = y + *mask;
    return {y, mask, {y.sin(), x}, count + 1};
  }
};

/// A network of operations that add weights' gradients to the sum themselves, or of torch's own.
struct summer : torch::nn::Module {
  at::Tensor rows, wide, bias, narrow;
  bool by_torch;
  explicit summer(std::int64_t n, bool torchs = false)
      : rows{register_parameter("rows", torch::empty({5, n}))},
        wide{register_parameter("wide", torch::empty({n, 2 * n}))},
        bias{register_parameter("bias", torch::empty({2 * n}))},
        narrow{register_parameter("narrow", torch::empty({n, 2 * n}))},
        by_torch{torchs} {}
  /// Numbers of rows, or rows.
  at::Tensor forward(at::Tensor const& x) {
    if (by_torch) {
      auto const in = x.is_floating_point() ? x : torch::embedding(rows, x);
      return torch::linear(torch::tanh(torch::addmm(bias, in, wide)), narrow);
    }
    auto const in = x.is_floating_point() ? x : lt::embedding(rows, x);
    return lt::affine(torch::tanh(lt::affine(in, wide, bias)), narrow, std::nullopt, true);
  }
};

}  // namespace test
