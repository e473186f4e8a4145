// SPDX-License-Identifier: Apache-2.0
// Damaged checkpoints of a training: a sentence or what stands there, never a crash, and bounded memory.
#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <pipewright/gpt2/save_training.hpp>
#include <pipewright/gpt2/saved_training.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/transport/in_process.hpp>

#include "fuzz.hpp"

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
namespace fs = std::filesystem;
using json = nlohmann::json;

namespace {

constexpr auto sizes = gpt2::configuration{
    .vocabulary = 5, .positions = 3, .width = 4, .heads = 2, .layers = 1, .attention_dropout = 0.5f};

/// All that a checkpoint is saved from and loaded into: every number another one.
struct holder {
  struct tensor {
    std::vector<float> values;
    std::array<std::vector<float>, 2> states;
  };
  std::map<std::string, tensor> tensors;
  std::int64_t count = 0, seen = 0;

  explicit holder(float first) {
    for (auto const& p : gpt2::all_tensors(sizes)) {
      auto& t = tensors[p.name];
      for (auto* const each : {&t.values, &t.states[0], &t.states[1]})
        for (std::size_t i = 0; i < p.size(); ++i) each->push_back(first++);
    }
  }
  void drain() {}
  [[nodiscard]] auto steps() const -> std::int64_t { return count; }
  [[nodiscard]] auto updates(int) const -> std::int64_t { return 7; }
  void resume(std::int64_t steps, auto&& updates_of) {
    count = steps;
    seen = updates_of(0);
  }
  void for_each_state(auto&& visit) {
    for (auto& [name, t] : tensors) {
      std::array<std::span<float>, 2> const states{t.states[0], t.states[1]};
      visit(0, std::string_view(name), std::span(t.values), pw::parameter_options{}, states);
    }
  }
};

/// A checkpoint, and the bytes of a file of it.
struct saved {
  fuzz::folder folder;
  fs::path path = folder.path / "step-3";
  std::size_t bytes = 0;

  saved() {
    holder training(1.f);
    training.count = 3;
    pw::in_process::run(
        pw::make_plan("sequential", {.ranks = 1, .micro_batches = 1}), [&](pw::in_process::endpoint& here) {
          gpt2::save_training(folder.path, {.sizes = sizes, .tied = false, .end_of_text = 4},
                              {.cursor = 12, .settings = {{"--seed", "5"}, {"--data", "a \"b\""}}}, training, here);
        });
    for (auto const& each : fs::directory_iterator(path)) bytes += each.file_size();
  }
};

auto checkpoint_of(fs::path const& file) { return gpt2::saved_training(file.parent_path()); }

}  // namespace

TEST_CASE("the record of a training") {
  saved const all;
  auto const path = all.path / "training.json";
  auto const good = fuzz::bytes_of(path);
  auto const result = fuzz::run(
      path, all.bytes, [&](std::mt19937& engine) { return fuzz::changed(good, 0, good.size(), engine); }, checkpoint_of,
      [](std::string const& bytes, gpt2::saved_training const& found) {
        auto const said = json::parse(bytes);
        auto const& r = found.record();
        return said.at("format") == 1 && said.at("steps") == r.steps && said.at("cursor") == r.cursor &&
               r.cursor >= 0 && r.steps >= 0 && said.at("optimizer_states") == r.states && r.states == 2 &&
               said.at("settings").get<std::map<std::string, std::string>>() == r.settings;
      });
  CHECK(result.refused > fuzz::mutations / 2);
  CHECK(result.read > fuzz::mutations / 50);
}

TEST_CASE("what the optimizer keeps") {
  saved const all;
  auto const path = all.path / "optimizer-00002-of-00003.safetensors";
  auto const good = fuzz::bytes_of(path);
  auto length = std::uint64_t{};
  std::memcpy(&length, good.data(), sizeof length);
  auto const make = [&](std::mt19937& engine) {
    if (engine() % 4 == 0) return fuzz::changed(good, 0, good.size(), engine);
    // The header's length is set right again, so that the reader gets as far as the text.
    auto text = fuzz::changed(good.substr(sizeof length, length), 0, length, engine);
    auto const now = std::uint64_t{text.size()};
    return std::string(reinterpret_cast<char const*>(&now), sizeof now) + text + good.substr(sizeof length + length);
  };
  auto const result =
      fuzz::run(path, all.bytes, make, checkpoint_of, [](std::string const& bytes, gpt2::saved_training const& found) {
        holder into(-1e6f);
        if (found.updates(1) == 7) {
          found.load(into);
          if (into.seen != 7) return false;
        } else {  // the layers of a stage do not go together
          CHECK_THROWS_WITH_AS(found.load(into), doctest::Contains("different numbers of updates"), pw::error);
        }
        auto size = std::uint64_t{};
        std::memcpy(&size, bytes.data(), sizeof size);
        auto const header = json::parse(bytes.substr(sizeof size, size));
        if (header.at("__metadata__").at("updates") != std::to_string(found.updates(1))) return false;
        if (found.updates(1) != 7) return true;
        auto compared = 0;
        for (auto const& [name, t] : into.tensors) {
          if (!name.starts_with("h.0.")) continue;
          for (int i = 0; i < 2; ++i, ++compared) {
            auto const& said = header.at("transformer." + name + ".state_" + std::to_string(i));
            auto const& values = t.states[static_cast<std::size_t>(i)];
            auto const at = sizeof size + size + said.at("data_offsets").at(0).get<std::size_t>();
            if (std::memcmp(bytes.data() + at, values.data(), 4 * values.size()) != 0) return false;
          }
        }
        return compared == 24 && header.size() == 25;
      });
  CHECK(result.refused > fuzz::mutations / 2);
  CHECK(result.read > fuzz::mutations / 50);
}

TEST_CASE("a checkpoint with another model's sizes") {
  saved const all;
  auto const path = all.path / "config.json";
  auto const good = fuzz::bytes_of(path);
  auto const result = fuzz::run(
      path, all.bytes, [&](std::mt19937& engine) { return fuzz::changed(good, 0, good.size(), engine); }, checkpoint_of,
      [](std::string const& bytes, gpt2::saved_training const& found) {
        auto const said = json::parse(bytes);
        auto const& c = found.model().sizes;
        return c.vocabulary == 5 && c.positions == 3 && c.width == 4 && c.layers == 1 &&
               said.value("n_head", 12) == c.heads && said.value("attn_pdrop", 0.1f) == c.attention_dropout;
      });
  CHECK(result.refused > fuzz::mutations / 2);
  CHECK(result.read > fuzz::mutations / 50);
}
