// SPDX-License-Identifier: Apache-2.0
#pragma once
// Training over processes comes to the serial oracle's bits under every schedule: each process computes them for itself and
// compares what it holds.

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <support/engine_matrix.hpp>

#include <pipewright/gpt2/boundary.hpp>
#include <pipewright/gpt2/configuration.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/stage/balance.hpp>

namespace support {

namespace gpt2 = pipewright::gpt2;

struct trained {
  std::string_view schedule;
  pw::weight_rule rule = pw::weight_rule::synchronous;
  int chunks = 1;
};
inline constexpr trained schedules[]{{"sequential"},
                                     {"gpipe"},
                                     {"flush"},
                                     {"interleaved", pw::weight_rule::synchronous, 2},
                                     {"1f1b", pw::weight_rule::stashing},
                                     {"1f1b-vsync", pw::weight_rule::vertical_sync},
                                     {"2bw", pw::weight_rule::double_buffered}};

/// `run_over(ranks, f)` calls f(endpoint&) on that many processes; `cut(S)` is the model in S stages, `wants(S)` what its plan
/// needs.
template<class T>
void check(auto const& run_over, int ranks, trained const& how, int micro_batches, auto const& cut, auto const& wants,
           auto const& batches, run_of const& run) {
  CAPTURE(how.schedule);
  CAPTURE(ranks);
  auto const optimizer = pw::adamw(0.02, 0.1);
  int const stages = ranks * how.chunks;
  pw::shape const shape{.ranks = ranks, .micro_batches = micro_batches, .chunks = how.chunks};
  pw::shape const one{.ranks = 1, .micro_batches = micro_batches, .chunks = 1};
  bool const synchronous = how.rule == pw::weight_rule::synchronous;
  auto const expected = synchronous
                            ? train_serially(how.rule, one, cut(1), batches, optimizer, run, wants(1))
                            : train_serially(how.rule, shape, cut(stages), batches, optimizer, run, wants(stages));
  auto const plan = pw::make_plan(how.schedule, shape, wants(stages));
  run_over(ranks, [&](auto& here) {
    auto training = pw::pipeline(plan, cut(stages), here, optimizer, run.options);
    outcome mine;
    detail::follow(run.calls, training, batches, mine);
    if (training.result().has_loss) {
      CHECK(mine.losses == expected.losses);
      CHECK(mine.evaluations == expected.evaluations);
    }
    int compared = 0;
    training.template for_each_parameter<T>(
        [&](int, std::string_view name, std::span<T> values, pw::parameter_options) {
          std::pair const own{std::string(name), std::vector<double>(values.begin(), values.end())};
          CHECK_MESSAGE(std::ranges::find(expected.weights, own) != expected.weights.end(), own.first);
          ++compared;
        });
    CHECK(compared > 0);
  });
}

/// Every micro-batch of every step has tokens of its own; the length differs from step to step.
struct tokens_of_step {
  int step;
  void input(int micro_batch, gpt2::token_batch& to) const { fill(micro_batch, 1, to); }
  void target(int micro_batch, gpt2::token_batch& to) const { fill(micro_batch, 5, to); }
  void fill(int micro_batch, int factor, gpt2::token_batch& to) const {
    int const length = 3 + step % 3;
    to.batch = {2, length};
    to.ids.resize(static_cast<std::size_t>(2 * length));
    for (int i = 0; i < 2 * length; ++i)
      to.ids[static_cast<std::size_t>(i)] = (factor * (i * i + 3 * micro_batch) + 7 * step) % 13;
  }
};

/// A GPT-2 under every schedule, untied and tied, sequences of another length each step. `model_of(configuration)` is its
/// recipe.
void check_gpt2(auto const& run_over, auto const& model_of) {
  for (bool const tied : {false, true})
    for (int const ranks : {1, 2, 4})
      for (auto const& how : schedules) {
        if (tied && how.rule == pw::weight_rule::stashing)
          continue;  // refused: an update after every micro-batch cannot wait
        mixture m{.options = {.seed = 7, .clip = tied ? 0.5 : 0.0}, .tied = tied, .micro_batches = 4};
        if (tied) m.options.tied = {"wte.weight", "lm_head.weight"};
        auto const cut = [&](int stages) {
          std::vector<int> sizes(static_cast<std::size_t>(stages), 8 / stages);
          return pw::balance(model_of(gpt2::configuration{.vocabulary = 13,
                                                          .positions = 5,
                                                          .width = 8,
                                                          .heads = 2,
                                                          .layers = 6,
                                                          .embedding_dropout = 0.1F,
                                                          .attention_dropout = 0.1F,
                                                          .residual_dropout = 0.1F}),
                             std::move(sizes));
        };
        auto const wants = [&](int stages) { return m.wants(stages); };
        check<float>(run_over, ranks, how, m.micro_batches, cut, wants, [](int step) { return tokens_of_step{step}; },
                     {.calls = "ssdse", .options = m.options});
      }
}

}  // namespace support
