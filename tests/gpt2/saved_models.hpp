// SPDX-License-Identifier: Apache-2.0
#pragma once
// Models in folders: made, loaded and computed in one piece.
#include <algorithm>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <pipewright/gpt2/load.hpp>
#include <pipewright/gpt2/save.hpp>

#include "whole_model.hpp"

namespace test {

namespace st = pipewright::safetensors;
namespace fs = std::filesystem;

inline auto const fixtures = fs::path(PIPEWRIGHT_SOURCE_DIR "/tests/gpt2/fixtures");

struct folder {
  fs::path path = fs::temp_directory_path() / ("pipewright-saved-" + std::to_string(std::random_device{}()));
  folder() { fs::create_directories(path); }
  ~folder() { fs::remove_all(path); }
};

/// A model with the values of a folder's.
inline auto loaded(fs::path const& from) -> std::pair<gpt2::hugging_face_model, whole_model> {
  auto const said = gpt2::read_configuration(from);
  auto const weights = st::checkpoint(from);
  gpt2::check(weights, said);
  auto model = whole_model(said.sizes);
  auto& [first, blocks, last] = model.weights.layers;
  gpt2::load(weights, first);
  for (auto& each : blocks.layers) gpt2::load(weights, each);
  gpt2::load(weights, last);
  return {said, std::move(model)};
}

inline auto logits_of(whole_model& model, gpt2::token_batch const& tokens) -> std::vector<float> {
  auto context = pw::stage_context{.training = false};
  model.forward(context, tokens, tokens);
  auto& kept = std::get<2>(model.saved.layers);
  auto const stream = std::get<1>(model.saved.between);
  gpt2::head<backend>(model.configuration).project(std::get<2>(model.weights.layers), stream, kept);
  return {kept.d_logits.data(), kept.d_logits.data() + kept.d_logits.size()};
}

inline auto tokens_in(st::file const& file) -> gpt2::token_batch {
  auto const& shape = file.at("tokens").shape;
  return {{static_cast<int>(shape.at(0)), static_cast<int>(shape.at(1))}, file.integers("tokens")};
}

/// Views of all values of a model, kept as long as it.
inline auto views_of(std::map<std::string, std::vector<float>> const& values) -> gpt2::named_values {
  gpt2::named_values views;
  for (auto const& [name, each] : values) views.emplace(name, each);
  return views;
}

/// Random values, so that a pair of exchanged or transposed tensors shows; embedding and head alike where tied.
inline auto random_model(gpt2::configuration const& c, bool tied) -> whole_model {
  auto model = whole_model(c);
  auto engine = std::mt19937(5);
  auto normal = std::normal_distribution<float>(0.f, 0.3f);
  model.weights.for_each_parameter([&](std::string_view, auto values, pw::parameter_options) {
    for (auto& each : values) each = normal(engine);
  });
  if (tied) {
    auto& [first, blocks, last] = model.weights.layers;
    std::copy_n(first[0], first.parameters()[0].size(), last[2]);
  }
  return model;
}

inline constexpr auto sizes = gpt2::configuration{
    .vocabulary = 37, .positions = 11, .width = 24, .heads = 3, .layers = 3, .residual_dropout = 0.1f};

}  // namespace test
