// SPDX-License-Identifier: Apache-2.0
// Cuts, torch's own optimizers, and half precision with a dynamic loss scale.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <support/doctest_with_torch.hpp>
#include <support/engine_matrix.hpp>
#include <torch/torch.h>

#include <pipewright/gpt2_libtorch/model.hpp>
#include <pipewright/libtorch/libtorch.hpp>

#include "modules.hpp"

namespace gpt2 = pipewright::gpt2;
namespace of_torch = pipewright::gpt2_libtorch;
using namespace test;
using lt::tensor;

namespace {

constexpr gpt2::configuration small{.vocabulary = 13, .positions = 8, .width = 16, .heads = 2, .layers = 4};

struct tokens_of {
  int step;
  void input(int micro_batch, gpt2::token_batch& to) const { fill(micro_batch, 0, to); }
  void target(int micro_batch, gpt2::token_batch& to) const { fill(micro_batch, 1, to); }
  void fill(int micro_batch, int shift, gpt2::token_batch& to) const {
    to.batch = {2, 8};
    to.ids.clear();
    for (int i = 0; i < 16; ++i) to.ids.push_back((i + shift + step % 3 + micro_batch) % 13);
  }
};

/// Trains GPT-2 over 2 ranks; the losses, and how many updates there were.
struct trained {
  std::vector<double> losses;
  std::int64_t updates = 0;
  double factor = 0;  ///< of the loss, at the end
};
trained train(at::ScalarType dtype, double factor, int steps) {
  pw::pipeline_options const options{.seed = 7, .non_finite = pw::on_non_finite::skip};
  auto const plan = pw::make_plan("flush", {.ranks = 2, .micro_batches = 2}, {.step_facts = true});
  trained all;
  std::mutex mutex;
  pw::in_process::run(plan, [&](auto& here) {
    auto const scaler = std::make_shared<lt::loss_scaler>(factor, 8);
    auto training =
        pw::pipeline(plan, pw::balance(of_torch::model(small, gpt2::token_loss::mean, dtype, scaler), {3, 3}), here,
                     pw::adam{.rate = 1e-2}, options);
    for (int step = 0; step < steps; ++step) {
      auto const told = training.step(tokens_of{step});
      scaler->note(told);
      std::lock_guard const lock(mutex);
      if (told.has_loss) all.losses.push_back(told.loss), all.updates = told.updates, all.factor = scaler->factor();
    }
  });
  return all;
}

}  // namespace

TEST_CASE("half precision trains as float does, with float weights") {
  at::set_num_threads(1);
  auto const exact = train(at::kFloat, 1, 40);
  REQUIRE(exact.losses.back() < 0.5 * exact.losses.front());
  for (auto const type : {at::kBFloat16, at::kHalf}) {
    auto const found = train(type, 256, 40);
    CHECK(found.updates == 40);
    for (std::size_t i = 0; i < 40; ++i) {
      CAPTURE(i);
      CHECK(std::abs(found.losses[i] - exact.losses[i]) < 0.05 * exact.losses.front());
    }
  }
}

TEST_CASE("a loss scale that is too large passes updates over until it fits, and grows again") {
  auto const found = train(at::kHalf, 0x1p40, 40);
  CHECK(found.updates > 10);
  CHECK(found.updates < 32);
  CHECK(found.losses[1] == doctest::Approx(train(at::kHalf, 256, 2).losses[1]).epsilon(0.2));
  CHECK(found.losses.back() < 0.7 * found.losses.front());
  CHECK(found.factor > 1024);
  // Powers of two alone change nothing where nothing under- or overflows. Seen: no bit on some processors, on one with AVX-512 the
  // last one of two of six losses, in LibTorch's own kernels, run after run; why is not known.
  auto const alone = train(at::kFloat, 1, 6).losses, scaled = train(at::kFloat, 0x1p10, 6).losses;
  for (std::size_t i = 0; i < 6; ++i) CHECK(scaled[i] == doctest::Approx(alone[i]).epsilon(1e-6));
}

namespace {

auto two_layers() {
  return pw::layers([] { return lt::stage<>(set(std::make_shared<mixer>(4), at::kFloat), {.prefix = "a."}); },
                    [] { return lt::stage<>(set(std::make_shared<mixer>(4), at::kFloat), {.prefix = "b."}); },
                    [] {
                      return lt::loss_stage<>(set(torch::nn::Linear(4, 2), at::kFloat),
                                              [](auto& m, at::Tensor const& x, at::Tensor const& t) {
                                                return (m.forward(x) - t).square().mean();
                                              },
                                              {.prefix = "c."});
                    });
}
struct pairs {
  int step;
  void input(int m, tensor& to) const { to = numbers({3, 4}, 0.3 + step + 0.1 * m, at::kFloat); }
  void target(int m, tensor& to) const { to = numbers({3, 2}, 0.7 + step + 0.1 * m, at::kFloat); }
};

template<class Optimizer, class Options> auto of_torchs(Options const& options) {
  return lt::torch_optimizer([options](std::vector<at::Tensor> p, pw::parameter_options o) {
    auto mine = options;
    if (!o.decay) mine.weight_decay(0);
    return std::make_unique<Optimizer>(std::move(p), mine);
  });
}

}  // namespace

TEST_CASE("torch's optimizers, out of place: the same bits as in a plain loop, under schedules with versions too") {
  auto const check = [](auto optimizer, auto make) {
    // The plain loop: modules, backward() and step(), as without a pipeline.
    auto const a = set(std::make_shared<mixer>(4), at::kFloat), b = set(std::make_shared<mixer>(4), at::kFloat);
    auto c = set(torch::nn::Linear(4, 2), at::kFloat);
    std::vector<std::unique_ptr<torch::optim::Optimizer>> plain;
    std::vector<at::Tensor> parameters;
    for (auto const& each : {a->parameters(), b->parameters(), c->parameters()})
      for (auto const& p : each) {
        parameters.push_back(p);
        plain.push_back(make(p));
      }
    for (int step = 0; step < 4; ++step) {
      tensor x, t;
      pairs{step}.input(0, x);
      pairs{step}.target(0, t);
      for (auto& each : plain) each->zero_grad();
      (c->forward(b->forward(a->forward(*x))) - *t).square().mean().backward();
      for (auto& each : plain) each->step();
    }
    auto const batches = [](int step) { return pairs{step}; };
    support::run_of const run{.calls = "ssss"};
    auto const plan = pw::make_plan("gpipe", {.ranks = 3, .micro_batches = 1});
    auto const found =
        support::train_in_pipeline<float>(plan.view(), pw::balance(two_layers(), {1, 1, 1}), batches, optimizer, run);
    REQUIRE(found.weights.size() == parameters.size());
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      auto const flat = parameters[i].detach().to(at::kDouble).contiguous().view({-1});
      CAPTURE(found.weights[i].first);
      CHECK(found.weights[i].second ==
            std::vector<double>(flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()));
    }
    pw::shape const shape{.ranks = 3, .micro_batches = 4};
    auto const stream = pw::make_plan("2bw", shape);
    auto const expected = support::train_serially(pw::weight_rule::double_buffered, shape,
                                                  pw::balance(two_layers(), {1, 1, 1}), batches, optimizer, run);
    auto const streamed =
        support::train_in_pipeline<float>(stream, pw::balance(two_layers(), {1, 1, 1}), batches, optimizer, run);
    CHECK(streamed.losses == expected.losses);
    CHECK(streamed.weights == expected.weights);
  };
  auto const of = [&]<class O>(auto options, O*) {
    check(of_torchs<O>(options), [options](at::Tensor const& p) mutable {
      options.weight_decay(p.dim() > 1 ? 0.1 : 0.0);
      return std::make_unique<O>(std::vector<at::Tensor>{p}, options);
    });
  };
  of(torch::optim::AdamWOptions(0.02).weight_decay(0.1), static_cast<torch::optim::AdamW*>(nullptr));
  of(torch::optim::SGDOptions(0.05).momentum(0.9).nesterov(true).weight_decay(0.1),
     static_cast<torch::optim::SGD*>(nullptr));
  of(torch::optim::RMSpropOptions(0.01).weight_decay(0.1), static_cast<torch::optim::RMSprop*>(nullptr));
}

TEST_CASE("our AdamW, and torch's with a schedule of rates, come to the same weights") {
  pw::learning_rate const rate{0.02, pw::rate_shape::cosine, 2, 6};
  auto const batches = [](int step) { return pairs{step}; };
  auto const plan = pw::make_plan("gpipe", {.ranks = 1, .micro_batches = 2});
  support::run_of const run{.calls = "ssss"};
  auto const with = [&](auto optimizer) {
    return support::train_in_pipeline<float>(plan.view(), pw::balance(two_layers(), {3}), batches, optimizer, run)
        .weights;
  };
  auto const ours = with(pw::adamw(rate, 0.1));
  auto const torchs = with(lt::torch_optimizer(
      [](std::vector<at::Tensor> p, pw::parameter_options o) {
        return std::make_unique<torch::optim::AdamW>(std::move(p),
                                                     torch::optim::AdamWOptions(1).weight_decay(o.decay ? 0.1 : 0));
      },
      rate));
  REQUIRE(ours.size() == torchs.size());
  for (std::size_t i = 0; i < ours.size(); ++i)
    for (std::size_t j = 0; j < ours[i].second.size(); ++j)
      CHECK(std::abs(ours[i].second[j] - torchs[i].second[j]) < 1e-3 * 0.02);
}

TEST_CASE("modules as named cuts see them") {
  CHECK(lt::summary_of(*torch::nn::Linear(3, 2)).type == "Linear");
  CHECK(lt::summary_of(*torch::nn::Linear(3, 2)).parameters == 8);
  auto const of_gpt2 = of_torch::summaries(small);
  REQUIRE(of_gpt2.size() == 6);
  auto const same = [&](std::size_t i, torch::nn::Module const& module) {
    CHECK(of_gpt2[i].type == lt::summary_of(module).type);
    CHECK(of_gpt2[i].parameters == lt::summary_of(module).parameters);
  };
  same(0, of_torch::embedding(small));
  same(4, of_torch::block(small));
  same(5, of_torch::head(small, gpt2::token_loss::mean));
  CHECK(pw::named_cut(of_gpt2, "type:GPT2Block", 2) == std::vector{3, 3});
}
