// SPDX-License-Identifier: Apache-2.0
// What is saved opens in Hugging Face's library, where a Python that has it is found.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/gpt2/save.hpp>

#include "reference.hpp"
#include "saved_models.hpp"

namespace st = pipewright::safetensors;
namespace gpt2 = pipewright::gpt2;
namespace fs = std::filesystem;
using test::folder, test::loaded, test::logits_of, test::random_model, test::sizes, test::views_of;

TEST_CASE("transformers opens what is saved, computes the same, and saves the same bits") {
  auto const* const given = std::getenv("PIPEWRIGHT_PYTHON");
  auto const python = std::string(given != nullptr ? given : "python3");
  if (std::system((python + " -c 'import torch, transformers, safetensors' >/dev/null 2>&1").c_str()) != 0) {
    MESSAGE("SKIPPED: ", python, " cannot import torch, transformers and safetensors; install them, or set ",
            "PIPEWRIGHT_PYTHON to one that can");
    CHECK(given == nullptr);
    return;
  }
  auto const here = folder();
  std::mt19937 engine(9);
  std::vector<std::int32_t> tokens(14);
  for (auto& each : tokens) each = static_cast<std::int32_t>(engine() % 37);
  auto command = python + " " PIPEWRIGHT_SOURCE_DIR "/tests/gpt2/open_with_transformers.py";
  std::map<fs::path, test::whole_model> models;
  for (bool const tied : {false, true}) {
    for (auto const largest : {UINT64_MAX, std::uint64_t{9000}}) {
      auto const path = here.path / (std::string(tied ? "tied" : "untied") + (largest == UINT64_MAX ? "" : "_shards"));
      auto& model = models.emplace(path, random_model(sizes, tied)).first->second;
      auto const values = test::by_name(model.weights);
      gpt2::save(path, {.sizes = sizes, .tied = tied, .end_of_text = 3}, views_of(values), largest);
      st::write(path / "tokens.safetensors",
                {{"tokens", st::value_type::i32, {2, 7}, std::as_bytes(std::span(tokens))}});
      command += " " + path.string();
    }
  }
  REQUIRE(std::system((command + " >" + (here.path / "log").string() + " 2>&1").c_str()) == 0);
  auto worst = 0.;
  for (auto& [path, model] : models) {
    CAPTURE(path.string());
    auto const theirs = st::file(path / "logits.safetensors").floats("logits");
    worst = std::max(worst, reference::distance(logits_of(model, {{2, 7}, tokens}), theirs));
    auto [said, again] = loaded(path / "again");
    CHECK(test::by_name(again.weights) == test::by_name(model.weights));
    CHECK(said == gpt2::read_configuration(path));
  }
  CHECK(worst < 1e-5);
  MESSAGE("largest relative distance of logits: ", worst);
}
