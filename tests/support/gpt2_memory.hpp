// SPDX-License-Identifier: Apache-2.0
#pragma once
// The most that ranks of a GPT-2 have taken from counted allocators at one time, against what its profile foretells: to 5 %.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/counted_bytes.hpp>

#include <pipewright/gpt2/boundary.hpp>
#include <pipewright/gpt2/configuration.hpp>
#include <pipewright/partition/balanced_sizes.hpp>
#include <pipewright/partition/rank_memory.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/profile/profile_layers.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/stage/stage_set.hpp>
#include <pipewright/transport/in_process.hpp>

namespace support {

/// Of every rank of a plan, whose stages recompute as it does, in two steps after the first: until then stages may keep first weights.
std::vector<double> most_bytes(pipewright::plan_view plan, auto const& make_stages, auto const& batch,
                               auto const& optimizer) {
  std::vector<double> most(static_cast<std::size_t>(plan.facts.ranks));
  pipewright::in_process::run(plan.facts.ranks, [&](auto& here) {
    counted_bytes::taker = static_cast<std::size_t>(here.rank()) + 1;
    auto const before = counted_bytes::now();
    auto training =
        pipewright::pipeline(plan, pipewright::recompute_each(make_stages(), plan.wants.recompute), here, optimizer);
    training.step(batch);
    counted_bytes::restart();
    for (int step = 0; step < 2; ++step) training.step(batch);
    training.drain();
    most[static_cast<std::size_t>(here.rank())] = static_cast<double>(counted_bytes::most() - before);
  });
  return most;
}

/// Under every schedule, with and without recomputation. `model_of(configuration)`: of either backend, whose profile that meter sees.
template<class Meter> void check_gpt2_memory(auto const& model_of) {
  namespace pw = pipewright;
  namespace gpt2 = pipewright::gpt2;
  static constexpr gpt2::configuration sizes{.vocabulary = 300, .positions = 64, .width = 64, .heads = 4, .layers = 14};
  static constexpr gpt2::batch_shape of{4, 64};
  constexpr int layers = sizes.layers + 2;
  struct tokens {
    void input(int, gpt2::token_batch& to) const {
      to = {of, std::vector<std::int32_t>(static_cast<std::size_t>(of.tokens()), 3)};
    }
    void target(int micro_batch, gpt2::token_batch& to) const { input(micro_batch, to); }
  };
  pw::adam const optimizer{.rate = 1e-3};
  auto const profile = pw::profile_layers<Meter>(pw::balance(model_of(sizes), std::vector<int>(layers, 1)), tokens{},
                                                 of.sequences, optimizer, {.warm_up = 1, .micro_batches = 3})
                           .profile;
  auto const compare = [&](std::string const& schedule, pw::shape shape, pw::recompute_mode mode) {
    CAPTURE(schedule);
    CAPTURE(shape.ranks);
    CAPTURE(static_cast<int>(mode));
    auto const plan = pw::make_plan(schedule, shape, {.recompute = mode});
    auto const cut = pw::balanced_sizes(std::vector<double>(layers, 1.), shape.stages());
    auto const predicted = pw::memory_of_ranks(plan, profile, cut);
    auto const most = most_bytes(plan, [&] { return pw::balance(model_of(sizes), cut); }, tokens{}, optimizer);
    REQUIRE(predicted.size() == most.size());
    for (std::size_t r = 0; r < most.size(); ++r) {
      CAPTURE(r);
      CAPTURE(predicted[r].total());
      CAPTURE(most[r]);
      CHECK(std::abs(predicted[r].total() - most[r]) <= 0.05 * most[r]);
    }
  };
  for (std::string const schedule : {"sequential", "gpipe", "1f1b", "1f1b-vsync", "2bw", "flush", "interleaved"})
    for (int const ranks : {1, 2, 4}) {
      pw::shape const shape{.ranks = ranks, .micro_batches = 4, .chunks = schedule == "interleaved" ? 2 : 1};
      for (auto const mode : pw::recompute_modes) compare(schedule, shape, mode);
    }
}

}  // namespace support
