// SPDX-License-Identifier: Apache-2.0
// The whole model against Hugging Face's: logits, loss and every gradient (fixtures: make_fixtures.py).
#include <cstdint>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/gpt2/load.hpp>
#include <pipewright/safetensors/file.hpp>

#include "reference.hpp"
#include "whole_model.hpp"

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
using reference::distance;

namespace {

constexpr auto tolerance = 1e-5;  // relative to each tensor's norm

auto fixtures() -> std::vector<std::filesystem::path> {
  std::vector<std::filesystem::path> files;
  for (auto const& each : std::filesystem::directory_iterator(PIPEWRIGHT_SOURCE_DIR "/tests/gpt2/fixtures")) {
    if (each.is_regular_file()) files.push_back(each.path());
  }
  return files;
}

auto number(pw::safetensors::file const& file, char const* key) -> int { return std::stoi(file.metadata().at(key)); }

auto tokens(pw::safetensors::file const& file, char const* key) -> gpt2::token_batch {
  auto const& shape = file.at(key).shape;
  return {{static_cast<int>(shape.at(0)), static_cast<int>(shape.at(1))}, file.integers(key)};
}

}  // namespace

TEST_CASE("logits, loss and gradients are Hugging Face's") {
  auto const files = fixtures();
  REQUIRE(files.size() == 5);
  auto worst = 0.;
  for (auto const& path : files) {
    CAPTURE(path.filename().string());
    auto const file = pw::safetensors::file(path);
    auto const c = gpt2::configuration{.vocabulary = number(file, "vocabulary"),
                                       .positions = number(file, "positions"),
                                       .width = number(file, "width"),
                                       .heads = number(file, "heads"),
                                       .layers = number(file, "layers")};
    auto model = test::whole_model(c);
    auto& [wte, blocks, head] = model.weights.layers;
    gpt2::load(file, wte);
    for (auto& each : blocks.layers) gpt2::load(file, each);
    gpt2::load(file, head);

    auto const x = tokens(file, "tokens");
    auto const t = tokens(file, "targets");
    auto context = pw::stage_context{};
    auto const loss = model.forward(context, x, t);
    auto const expected_loss = static_cast<double>(file.floats("loss").at(0));
    CHECK(std::abs(loss.value - expected_loss) / expected_loss < tolerance);

    auto counted = 0;
    for (auto const id : t.ids) counted += id >= 0;
    CHECK(loss.weight == counted);

    // The logits, which the forward has turned into their gradient, once more.
    auto& layers = std::get<2>(model.saved.layers);
    auto const stream = std::get<1>(model.saved.between);
    auto head_stage = gpt2::head<test::backend>(c);
    auto kept = layers;
    head_stage.project(head, stream, kept);
    CHECK(distance(kept.d_logits, file.floats("logits")) < tolerance);

    model.backward(context);
    auto gradients = test::by_name(model.gradients);
    if (number(file, "tied") == 1) {  // Hugging Face's one tensor is our two
      auto const& copy = gradients.at("lm_head.weight");
      auto& sum = gradients.at("wte.weight");
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += copy[i];
      gradients.erase("lm_head.weight");
    }
    auto checked = 0;
    for (auto const& [name, values] : gradients) {
      CAPTURE(name);
      auto const off = distance(values, file.floats("gradient." + name));
      CHECK(off < tolerance);
      worst = std::max(worst, off);
      ++checked;
    }
    auto expected = 0;
    for (auto const& [name, tensor] : file.tensors()) expected += name.starts_with("gradient.");
    CHECK(checked == expected);
  }
  MESSAGE("largest relative distance of a gradient: ", worst);
}
