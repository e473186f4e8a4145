// SPDX-License-Identifier: Apache-2.0
// Stages made of torch's modules train to the serial oracle's bits under every schedule, whatever the ranks and the cut: over
// a boundary of two tensors, one of them absent in every other step, with keyed dropout, torch's own, and a frozen parameter.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <support/doctest_with_torch.hpp>
#include <support/engine_matrix.hpp>
#include <torch/torch.h>

#include <pipewright/libtorch/libtorch.hpp>
#include <pipewright/plan/table_plan.hpp>
#include <pipewright/stage/balance.hpp>

#include "modules.hpp"

using namespace test;
using lt::tensor;
using pw::weight_rule;

namespace {

constexpr int width = 6;
using stream = std::tuple<tensor, std::optional<tensor>>;  // values, and a mask of what is real

struct table : torch::nn::Module {
  torch::nn::Embedding rows{nullptr};
  table() : rows{register_module("rows", torch::nn::Embedding(11, width))} {}
};
/// The mask goes on as it came.
struct masked_mixer : mixer {
  torch::nn::Dropout drop;
  explicit masked_mixer(double p) : mixer(width, p), drop{register_module("drop", torch::nn::Dropout(p))} {}
  std::tuple<at::Tensor, std::optional<at::Tensor>> forward(at::Tensor const& x,
                                                            std::optional<at::Tensor> const& mask) {
    auto const y = drop(mixer::forward(x));
    return {mask ? y * mask->unsqueeze(-1) : y, mask};
  }
};

/// Token ids of a micro-batch; in odd steps with a mask. Lengths differ from step to step.
struct batch {
  int number;
  void input(int micro_batch, stream& to) const {
    auto ids = torch::arange(2 * length()).view({2, length()}) * (3 + micro_batch) + number;
    std::get<0>(to) = tensor(ids.remainder(11));
    if (number % 2 == 1) std::get<1>(to) = tensor((ids.remainder(5) > 0).to(at::kFloat));
    else std::get<1>(to).reset();
  }
  void target(int micro_batch, tensor& to) const {
    to = tensor((torch::arange(2 * length()) * (5 + micro_batch)).remainder(7));
  }
  int length() const { return 3 + number % 3; }
};

constexpr int layer_count = 8;

auto cut(int stages) {
  std::vector<int> sizes(static_cast<std::size_t>(stages), layer_count / stages);
  return pw::balance(
      pw::layers(
          [] {
            return lt::stage<stream>(set(std::make_shared<table>(), at::kFloat),
                                     [](table& t, at::Tensor const& ids, std::optional<at::Tensor> const& mask) {
                                       return std::tuple(t.rows(ids), mask);
                                     });
          },
          pw::repeated(
              [](int i) {
                auto const module = set(std::make_shared<masked_mixer>(i % 2 == 0 ? 0.2 : 0.0), at::kFloat);
                if (i == 1) module->wide->bias.set_requires_grad(false);
                return lt::stage<stream>(module, {.prefix = "h." + std::to_string(i) + "."});
              },
              layer_count - 2),
          [] {
            return lt::loss_stage<stream>(
                set(torch::nn::Linear(width, 7), at::kFloat),
                [](auto& m, at::Tensor const& x, std::optional<at::Tensor> const&, at::Tensor const& t) {
                  auto const total = torch::nn::functional::cross_entropy(
                      m.forward(x).view({-1, 7}), t,
                      torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum));
                  return std::pair(total, t.numel());
                },
                {.prefix = "top."});
          }),
      std::move(sizes));
}
auto const batches = [](int number) { return batch{number}; };

struct trained {
  std::string_view schedule;
  weight_rule rule = weight_rule::synchronous;
  int chunks = 1;
};
constexpr trained schedules[]{{"sequential"},
                              {"gpipe"},
                              {"flush"},
                              {"interleaved", weight_rule::synchronous, 2},
                              {"1f1b", weight_rule::stashing},
                              {"1f1b-vsync", weight_rule::vertical_sync},
                              {"2bw", weight_rule::double_buffered}};

void check(int ranks, trained const& how, pw::pipeline_options const& options,
           pw::recompute_mode mode = pw::recompute_mode::never) {
  CAPTURE(how.schedule);
  CAPTURE(ranks);
  auto const optimizer = pw::adamw(0.02, 0.1);
  int const stages = ranks * how.chunks;
  support::mixture const m{.options = options};
  pw::shape const shape{.ranks = ranks, .micro_batches = 4, .chunks = how.chunks};
  support::run_of const run{.calls = "ssesds", .options = options};
  bool const synchronous = how.rule == weight_rule::synchronous;
  // A stage's layers have one graph each, so a cut changes nothing.
  auto const expected = synchronous ? support::train_serially(how.rule, {.ranks = 1, .micro_batches = 4, .chunks = 1},
                                                              cut(1), batches, optimizer, run)
                                    : support::train_serially(how.rule, shape, cut(stages), batches, optimizer, run);
  auto const plan = pw::make_plan(how.schedule, shape, m.wants(stages, mode));
  auto const found =
      support::train_in_pipeline<float>(plan, pw::recompute_each(cut(stages), mode), batches, optimizer, run);
  CHECK(expected.losses.size() == 4);
  CHECK(found.losses == expected.losses);
  CHECK(found.evaluations == expected.evaluations);
  CHECK(found.updates == expected.updates);
  CHECK(found.weights == expected.weights);
}

}  // namespace

TEST_CASE("every schedule comes to the oracle's bits") {
  at::set_num_threads(1);
  for (int const ranks : {1, 2, 4})
    for (auto const& how : schedules) {
      pw::pipeline_options options{.seed = 7};
      if (how.rule == weight_rule::synchronous) options.scale = pw::loss_scale::per_token, options.clip = 0.5;
      check(ranks, how, options);
    }
}

TEST_CASE("recomputed, to the same bits") {
  check(2, {"gpipe"}, {.seed = 7}, pw::recompute_mode::always);
  check(4, {"1f1b", weight_rule::stashing}, {.seed = 7}, pw::recompute_mode::always);
  check(2, {"flush"}, {.seed = 7}, pw::recompute_mode::except_last);
}

TEST_CASE("with the halves of backward apart, to the same bits") {
  auto const plan = pw::make_plan(
      pw::parse_csv("0F0,0F1,0F2,0I0,0I1,0W0,0I2,0W1,0W2\n1F0,1I0,1F1,1I1,1W0,1F2,1I2,1W1,1W2\n").orders.view());
  support::run_of const run{.calls = "sses", .options = {.seed = 7}};
  auto const optimizer = pw::sgd{.rate = 0.1, .momentum = 0.5};
  auto const expected = support::train_serially(weight_rule::synchronous, {.ranks = 1, .micro_batches = 3, .chunks = 1},
                                                cut(1), batches, optimizer, run);
  auto const found = support::train_in_pipeline<float>(plan.view(), cut(2), batches, optimizer, run);
  CHECK(found.losses == expected.losses);
  CHECK(found.weights == expected.weights);
}

TEST_CASE("what a stage refuses names rank, stage, micro-batch and action") {
  using tensors = std::vector<tensor>;
  auto const layers = pw::layers(
      [] {
        return lt::stage<tensors>(set(torch::nn::Linear(3, 3)),
                                  [](auto&, std::vector<at::Tensor> const& x) { return x; });
      },
      [] {
        return lt::stage<tensors, tensor>(set(torch::nn::Linear(3, 3)),
                                          [](auto& m, std::vector<at::Tensor> const& x) { return m.forward(x[0]); },
                                          {.inputs = {{.dtype = at::kDouble, .sizes = {{2, 3}}}}});
      },
      [] {
        return lt::loss_stage<>(set(torch::nn::Linear(3, 1)), [](auto& m, at::Tensor const& x, at::Tensor const& t) {
          return (m.forward(x) - t).square().sum();
        });
      });
  struct uneven {
    tensors one;  ///< the input of micro-batch 1
    void input(int micro_batch, tensors& to) const { to = micro_batch == 1 ? one : tensors{numbers({2, 3})}; }
    void target(int, tensor& to) const { to = numbers({1}); }
  };
  auto const plan = pw::make_plan("gpipe", {.ranks = 3, .micro_batches = 3});
  for (auto const& [one, why] : std::vector<std::pair<tensors, std::string>>{
           {{numbers({2, 3}), numbers({1})}, "the input has 2 tensors, but the stage takes 1"},
           {{numbers({4, 3})}, "input tensor 0 is Double [4, 3], but the stage takes Double [2, 3]"},
           {{numbers({2, 3}, 0, at::kFloat)}, "input tensor 0 is Float [2, 3], but the stage takes Double [2, 3]"}})
    CHECK_THROWS_WITH_AS(pw::in_process::run(plan,
                                             [&](auto& here) {
                                               auto training = pw::pipeline(plan, pw::balance(layers, {1, 1, 1}), here,
                                                                            pw::sgd{.rate = 0.1});
                                               training.step(uneven{one});
                                             }),
                         doctest::Contains(("rank 1, stage 1, micro-batch 1, action 1F1: " + why).c_str()), pw::error);
}
