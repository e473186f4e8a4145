// SPDX-License-Identifier: Apache-2.0
#pragma once
// Training from a checkpoint of Hugging Face's, against the weights that PyTorch reaches there (fixtures: make_fixtures.py).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/gpt2/data.hpp>
#include <pipewright/gpt2/load.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/transport/in_process.hpp>

namespace test {

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
namespace safetensors = pipewright::safetensors;

inline auto const trained_fixtures = std::filesystem::path(PIPEWRIGHT_SOURCE_DIR "/tests/gpt2/fixtures");

inline constexpr auto steps = 3;
inline constexpr auto learning_rate = 1e-3;

/// Sequences of `length` + 1 tokens, of which each is the target of the one before.
struct tokens_of_step {
  std::span<std::int32_t const> tokens;
  int length;

  void input(int, gpt2::token_batch& to) const { take(0, to); }
  void target(int, gpt2::token_batch& to) const { take(1, to); }

 private:
  void take(std::size_t from, gpt2::token_batch& to) const {
    auto const stride = static_cast<std::size_t>(length) + 1;
    to = {{static_cast<int>(tokens.size() / stride), length}, {}};
    for (std::size_t at = from; at < tokens.size(); at += stride)
      to.ids.insert(to.ids.end(), &tokens[at], &tokens[at] + length);
  }
};

/// `model_of(configuration)` gives the recipe of the model that trains.
inline void check_training(std::string const& from, std::string const& to, auto const& optimizer,
                           auto const& model_of) {
  CAPTURE(to);
  auto const said = gpt2::read_configuration(trained_fixtures / from);
  auto const start = safetensors::checkpoint(trained_fixtures / from);
  auto const expected = safetensors::file(trained_fixtures / "trained" / (to + ".safetensors"));
  auto const losses = expected.floats("losses");
  auto const batches = safetensors::file(trained_fixtures / "trained" / "batches.safetensors");
  auto const& extents = batches.at("tokens").shape;
  auto const tokens = batches.integers("tokens");
  auto const each = static_cast<std::size_t>(extents.at(1) * extents.at(2));

  auto without_dropout = said.sizes;
  without_dropout.embedding_dropout = without_dropout.attention_dropout = without_dropout.residual_dropout = 0.f;
  auto options = pw::pipeline_options{};
  if (said.tied) options.tied = {"wte.weight", "lm_head.weight"};
  auto const plan = pw::make_plan("sequential", {.ranks = 2, .micro_batches = 1},
                                  {.tied_first = said.tied ? 0 : -1, .tied_second = said.tied ? 1 : -1});
  std::map<std::string, std::vector<float>> found;
  std::mutex mutex;
  pw::in_process::run(plan, [&](pw::in_process::endpoint& here) {
    auto training = pw::pipeline(plan.view(), pw::balance(model_of(without_dropout), {2, 2}), here, optimizer, options);
    training.for_each_parameter([&](int, std::string_view name, std::span<float> values, pw::parameter_options) {
      start.read(gpt2::name_in(start, std::string(name)), values);
    });
    for (std::size_t i = 0; i < steps; ++i) {
      auto const told =
          training.step(tokens_of_step{std::span(tokens).subspan(i * each, each), static_cast<int>(extents.at(2)) - 1});
      auto const lock = std::lock_guard(mutex);
      if (told.has_loss) CHECK(std::abs(told.loss - static_cast<double>(losses[i])) < 1e-5 * told.loss);
    }
    auto const lock = std::lock_guard(mutex);
    training.for_each_parameter([&](int, std::string_view name, std::span<float> values, pw::parameter_options) {
      found[std::string(name)].assign(values.begin(), values.end());
    });
  });
  // A bias that all keys share changes no softmax: its gradient is 0, and what rounding makes of it (1e-10 here, 1e-9 in
  // batches of few tokens) is not small enough beside Adam's epsilon of 1e-8 to be held to the others' bound.
  auto worst = 0., worst_key = 0.;
  for (auto const& [name, values] : found) {
    CAPTURE(name);
    auto const theirs = expected.floats(gpt2::name_in(expected, name));
    REQUIRE(theirs.size() == values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      auto const off = std::abs(static_cast<double>(values[i]) - static_cast<double>(theirs[i]));
      auto const third = i * 3 / values.size();
      auto& furthest = name.ends_with("c_attn.bias") && third == 1 ? worst_key : worst;
      furthest = std::max(furthest, off / (learning_rate * steps));
    }
  }
  CHECK(worst < 0.005);
  CHECK(worst_key < 0.05);
  MESSAGE(to, ": no weight further off than ", worst, " x learning rate x steps, no key's bias than ", worst_key);
}

}  // namespace test
