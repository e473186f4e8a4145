// SPDX-License-Identifier: Apache-2.0
// A profile of GPT-2's layers says what every rank holds under every schedule and cut, against the engine's slots.
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/held_bytes.hpp>

#include <pipewright/gpt2/model.hpp>
#include <pipewright/partition/rank_memory.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/profile/profile_layers.hpp>
#include <pipewright/stage/balance.hpp>

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;

namespace {

constexpr gpt2::configuration sizes{.vocabulary = 13, .positions = 5, .width = 8, .heads = 2, .layers = 6};

struct tokens {
  void input(int, gpt2::token_batch& to) const { to = {{2, 5}, std::vector<std::int32_t>(10, 3)}; }
  void target(int, gpt2::token_batch& to) const { to = {{2, 5}, std::vector<std::int32_t>(10, 4)}; }
};

void compare(pw::model_profile const& profile, std::string const& schedule, pw::shape shape,
             std::vector<int> const& cut, pw::recompute_mode mode) {
  CAPTURE(schedule);
  CAPTURE(shape.ranks);
  auto const plan = pw::make_plan(schedule, shape, {.recompute = mode});
  auto const predicted = pw::memory_of_ranks(plan, profile, cut);
  auto const held = support::held_bytes(plan, pw::balance(gpt2::model(sizes), cut), tokens{}, pw::adam{.rate = 1e-3});
  // Uncounted are the shapes, of 8 bytes, of the gradients between a stage's layers, which are empty where backward has no
  // halves: at most 7 of them for each of at most 5 micro-batches.
  support::check_held(predicted, held, 8 * 7 * 5);
}

}  // namespace

TEST_CASE("every schedule, two cuts, with and without recomputation") {
  auto const profile = pw::profile_layers(pw::balance(gpt2::model(sizes), std::vector<int>(8, 1)), tokens{}, 2,
                                          pw::adam{.rate = 1e-3}, {.warm_up = 1, .micro_batches = 1})
                           .profile;
  for (std::string const schedule : {"sequential", "gpipe", "1f1b", "1f1b-vsync", "2bw", "flush", "interleaved"})
    for (int const ranks : {1, 2, 4}) {
      int const chunks = schedule == "interleaved" ? 2 : 1, stages = ranks * chunks;
      std::vector<std::vector<int>> cuts{std::vector<int>(static_cast<std::size_t>(stages), 8 / stages)};
      if (stages > 1 && stages < 8) {
        cuts.push_back(cuts.front());
        --cuts.back().front();
        ++cuts.back().back();
      }
      for (auto const& cut : cuts) {
        pw::shape const shape{.ranks = ranks, .micro_batches = 4, .chunks = chunks};
        for (auto const mode : pw::recompute_modes) compare(profile, schedule, shape, cut, mode);
      }
    }
}
