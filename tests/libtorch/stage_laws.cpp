// SPDX-License-Identifier: Apache-2.0
// What every stage promises, of stages made of torch's modules.
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include <laws/stage.hpp>
#include <support/doctest_with_torch.hpp>
#include <torch/torch.h>

#include <pipewright/libtorch/libtorch.hpp>

#include "modules.hpp"

using namespace test;
using lt::tensor;

TEST_CASE("a linear layer, in one call") {
  at::set_num_threads(1);
  laws::check_stage(laws::example<lt::stage<>>{.make = [] { return lt::stage<>(set(torch::nn::Linear(3, 2))); },
                                               .input = numbers({4, 3}),
                                               .output_gradient = numbers({4, 2}, 1)});
}

TEST_CASE("a list of modules") {
  auto const make = [] {
    return lt::stage<>(set(torch::nn::Sequential(
        torch::nn::Linear(3, 4), torch::nn::LayerNorm(torch::nn::LayerNormOptions({4})), torch::nn::GELU(),
        torch::nn::Functional([](at::Tensor const& x) { return x * x; }), torch::nn::Linear(4, 2))));
  };
  laws::check_stage(
      laws::example<lt::stage<>>{.make = make, .input = numbers({2, 5, 3}), .output_gradient = numbers({2, 5, 2}, 1)});
}

TEST_CASE("norms, views, a residual and keyed dropout") {
  for (double const p : {0.0, 0.4})
    laws::check_stage(
        laws::example<lt::stage<>>{.make = [p] { return lt::stage<>(set(std::make_shared<mixer>(3, p))); },
                                   .input = numbers({2, 4, 3}),
                                   .output_gradient = numbers({2, 4, 3}, 1),
                                   .context = {.layer = 2, .seed = 5}});
}

TEST_CASE("torch's own dropout, from the process-wide generator") {
  auto const make = [] {
    return lt::stage<>(set(torch::nn::Sequential(torch::nn::Dropout(0.4), torch::nn::Linear(3, 3), torch::nn::Tanh(),
                                                 torch::nn::Dropout(0.4))));
  };
  laws::check_stage(laws::example<lt::stage<>>{
      .make = make, .input = numbers({4, 3}), .output_gradient = numbers({4, 3}, 1), .context = {.seed = 5}});
  auto stage = make();
  lt::parameter_values w;
  pw::stage_context context{.seed = 5};
  stage.initialize(context, w);
  lt::stage<>::saved kept;
  tensor y, other;
  torch::manual_seed(3);
  auto const expected = torch::rand({4});
  torch::manual_seed(3);
  stage.forward(context, w, numbers({4, 3}), y, kept);
  CHECK(torch::equal(torch::rand({4}), expected));  // as if nothing had been drawn
  ++context.micro_batch;
  stage.forward(context, w, numbers({4, 3}), other, kept);
  CHECK_FALSE(torch::equal(*y, *other));
}

TEST_CASE("weights that are shared, computed, or beside the way") {
  using output = std::tuple<tensor, tensor>;
  laws::check_stage(laws::example<lt::stage<tensor, output>>{
      .make = [] { return lt::stage<tensor, output>(set(std::make_shared<sharer>(3))); },
      .input = numbers({2, 3}),
      .output_gradient = {numbers({2, 3}, 1), numbers({3}, 2)}});
}

TEST_CASE("several tensors, one that may be absent, and what is no tensor") {
  using input = std::tuple<tensor, std::optional<tensor>, std::vector<tensor>, int>;
  using forked = lt::stage<input>;
  static_assert(std::same_as<pw::input_gradient_t<forked>,
                             std::tuple<tensor, std::optional<tensor>, std::vector<tensor>, pw::nothing>>);
  for (bool const masked : {false, true}) {
    input x{numbers({2, 3}), std::nullopt, {numbers({2, 3}, 4), numbers({3}, 5)}, 7};
    pw::output_gradient_t<forked> dy{numbers({2, 3}, 1), std::nullopt, {numbers({2, 3}, 2), numbers({2, 3}, 3)}, {}};
    if (masked) std::get<1>(x) = numbers({3}, 6), std::get<1>(dy) = numbers({3}, 7);
    // Absent values have no numbers, so the gradient's numbers are as many as the output's but for the int.
    auto stage = forked(set(std::make_shared<brancher>(3)));
    lt::parameter_values w;
    pw::stage_context context;
    stage.initialize(context, w);
    input y;
    forked::saved kept;
    stage.forward(context, w, x, y, kept);
    CHECK(std::get<1>(y).has_value() == masked);
    CHECK(std::get<2>(y).size() == 2);
    CHECK(std::get<3>(y) == 8);
    auto whole = pw::make_gradients<forked>(w), halves = whole;
    pw::input_gradient_t<forked> dx, dx_of_halves;
    stage.backward(context, w, kept, dy, dx, whole);
    stage.forward(context, w, x, y, kept);
    stage.backward_input(context, w, kept, dy, dx_of_halves);
    stage.backward_weight(context, w, kept, dy, halves);
    CHECK(laws::detail::same_bits(laws::detail::floats_of(dx), laws::detail::floats_of(dx_of_halves)));
    CHECK(laws::detail::same_bits(laws::detail::floats_of(whole), laws::detail::floats_of(halves)));
    // The same by hand.
    auto module = set(std::make_shared<brancher>(3));
    std::vector<at::Tensor> in;
    lt::detail::each_tensor(x, [&](tensor const& each) { in.push_back(each->detach().requires_grad_()); });
    auto const mask = masked ? std::optional(in[1]) : std::nullopt;
    auto const [a, b, c, count] = module->forward(in[0], mask, {in[masked ? 2U : 1U], in[masked ? 3U : 2U]}, 7);
    auto sum = (a * *std::get<0>(dy)).sum() + (c[0] * *std::get<2>(dy)[0]).sum() + (c[1] * *std::get<2>(dy)[1]).sum();
    if (masked) sum = sum + (*b * **std::get<1>(dy)).sum();
    auto const expected = torch::autograd::grad({sum}, in);
    std::size_t at = 0;
    lt::detail::each_tensor(dx,
                            [&](tensor const& each) { CHECK(torch::allclose(*each, expected[at++], 1e-12, 1e-14)); });
    CHECK(at == expected.size());
  }
}

TEST_CASE("a first stage: token ids have no gradient, so all of backward is the second half") {
  laws::check_stage(laws::example<lt::stage<>>{.make = [] { return lt::stage<>(set(torch::nn::Embedding(5, 3))); },
                                               .input = tensor(torch::tensor({{1, 4}, {4, 0}}, torch::kLong)),
                                               .output_gradient = numbers({2, 2, 3}, 1)});
}

TEST_CASE("operations that add to the sum themselves, with an input that learns and as a first stage") {
  auto const ids = tensor(torch::tensor({1, 4, 4, 0}, torch::kLong));
  for (tensor const& x : {numbers({4, 3}), ids})
    laws::check_stage(laws::example<lt::stage<>>{.make = [] { return lt::stage<>(set(std::make_shared<summer>(3))); },
                                                 .input = x,
                                                 .output_gradient = numbers({4, 3}, 1)});
}

TEST_CASE("a loss, of one number or with its weight") {
  auto const cross_entropy = [](torch::nn::LinearImpl& m, at::Tensor const& x, at::Tensor const& t) {
    return torch::nn::functional::cross_entropy(m.forward(x), t);
  };
  auto const target = tensor(torch::tensor({1, 0, 3}, torch::kLong));
  laws::check_stage(laws::example<lt::loss_stage<>>{
      .make = [=] { return lt::loss_stage<>(set(torch::nn::Linear(3, 4)), cross_entropy); },
      .input = numbers({3, 3}),
      .target = target});
  auto const sum = [](torch::nn::LinearImpl& m, at::Tensor const& x, at::Tensor const& t) {
    return std::pair(torch::nn::functional::cross_entropy(
                         m.forward(x), t, torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum)),
                     t.numel());
  };
  laws::check_stage(
      laws::example<lt::loss_stage<>>{.make = [=] { return lt::loss_stage<>(set(torch::nn::Linear(3, 4)), sum); },
                                      .input = numbers({3, 3}),
                                      .target = target});
}
