// SPDX-License-Identifier: Apache-2.0
// How do I train modules of LibTorch? Any torch::nn module is a stage; here twelve layers run over four ranks.
#include <iostream>
#include <optional>
#include <tuple>

#include <torch/torch.h>

#include <pipewright/libtorch/libtorch.hpp>
#include <pipewright/pipewright.hpp>

namespace pw = pipewright;
using pw::libtorch::tensor;

// A module of one's own, with torch's own dropout; `mask` is a tensor or nothing, and travels on as it came.
struct layer : torch::nn::Module {
  torch::nn::LayerNorm norm{register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({16})))};
  torch::nn::Linear wide{register_module("wide", torch::nn::Linear(16, 64))};
  torch::nn::Linear narrow{register_module("narrow", torch::nn::Linear(64, 16))};
  torch::nn::Dropout drop{register_module("drop", torch::nn::Dropout(0.05))};

  std::tuple<at::Tensor, std::optional<at::Tensor>> forward(at::Tensor x, std::optional<at::Tensor> mask) {
    auto y = drop(narrow(torch::gelu(wide(norm(x)))));
    return {x + (mask ? y * *mask : y), mask};
  }
};

using stream = std::tuple<tensor, std::optional<tensor>>;

// Points of two spirals; every other batch masks some features.
struct spirals {
  std::int64_t step;
  void input(int micro_batch, stream& to) const {
    auto const t = places(micro_batch) * 4;
    auto const side = torch::arange(32).remainder(2) * 2 - 1;
    auto const x = torch::stack({side * t * t.cos(), side * t * t.sin()}, 1);
    to = {tensor(torch::cat({x, (x * 2).sin(), torch::zeros({32, 12})}, 1)), std::nullopt};
    if (step % 2 == 1) std::get<1>(to) = tensor((torch::arange(16) < 14).to(torch::kFloat));
  }
  void target(int, tensor& to) const { to = tensor(torch::arange(32).remainder(2)); }
  at::Tensor places(int micro_batch) const {  // a function of step and micro-batch, on whichever rank asks
    return (torch::arange(32) * 0.6180339 + 0.137 * micro_batch + 0.071 * static_cast<double>(step)).frac();
  }
};

int main() {
  at::set_num_threads(1);  // a rank
  constexpr auto plan = pw::plan<pw::flush, pw::shape{.ranks = 4, .micro_batches = 8}>;
  auto const model = pw::layers(
      pw::repeated(
          [](int i) {  // called by the ranks that need it; seeded, so that all runs and cuts start alike
            pw::libtorch::seeded_generator const first_values(static_cast<std::uint64_t>(i));
            return pw::libtorch::stage<stream>(std::make_shared<layer>(), {.prefix = std::to_string(i) + "."});
          },
          11),
      [] {
        pw::libtorch::seeded_generator const first_values(11);
        return pw::libtorch::loss_stage<stream>(
            torch::nn::Linear(16, 2),
            [](auto& linear, at::Tensor const& x, std::optional<at::Tensor> const&, at::Tensor const& target) {
              return torch::nn::functional::cross_entropy(linear.forward(x), target);
            });
      });

  double first = 0, last = 0;
  pw::in_process::run(plan, [&](auto& here) {
    auto training = pw::pipeline(plan, pw::balance<3, 3, 3, 3>(model), here, pw::adamw(3e-3));
    for (int step = 0; step < 40; ++step)
      if (auto const told = training.step(spirals{step}); told.has_loss) (step == 0 ? first : last) = told.loss;
  });
  std::cout << "loss " << first << " -> " << last << '\n';
  return last < 0.5 * first ? 0 : 1;
}
