// SPDX-License-Identifier: Apache-2.0
// Checkpoints of a training: what goes on from one has the bits of what never stopped, for every schedule and number of
// ranks; a program killed at any moment leaves the last one whole.
#include <algorithm>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pipewright/gpt2/document_batches.hpp>
#include <pipewright/gpt2/save_training.hpp>
#include <pipewright/gpt2/saved_training.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/transport/in_process.hpp>

#include "saved_models.hpp"

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
namespace fs = std::filesystem;

namespace {

using test::folder;

constexpr auto sizes = gpt2::configuration{.vocabulary = 256,
                                           .positions = 24,
                                           .width = 8,
                                           .heads = 2,
                                           .layers = 6,
                                           .embedding_dropout = 0.1f,
                                           .attention_dropout = 0.1f,
                                           .residual_dropout = 0.1f};
constexpr auto sequences_drawn = 4;

auto documents() -> gpt2::sequences {
  return gpt2::sequences::of_documents(
      std::vector<std::string>{"A short one.", "A", "This one is longer, and it is cut off", "Padding follows.",
                               "One more text", "Seven", "Eight are many"},
      &gpt2::byte_tokenizer::encode);
}

struct way {
  std::string schedule;
  int ranks = 1, chunks = 1;
  bool tied = false;
};

struct outcome {
  std::vector<double> losses;
  std::map<std::string, std::vector<float>> weights;
};

struct run_of {
  int steps;             ///< to do
  int drain_after = -1;  ///< of them
  fs::path save_to{};    ///< at the end
  fs::path resume_from{};
};

auto train(way const& w, run_of const& run) -> outcome {
  auto const stages = w.ranks * w.chunks;
  auto options = pw::pipeline_options{.seed = 3};
  auto wants = pw::needs{};
  if (w.tied) {
    options.tied = {"wte.weight", "lm_head.weight"};
    wants.tied_first = 0;
    wants.tied_second = stages - 1;
  }
  auto const plan = pw::make_plan(w.schedule, {.ranks = w.ranks, .micro_batches = 2, .chunks = w.chunks}, wants);
  auto const model = gpt2::hugging_face_model{.sizes = sizes, .tied = w.tied, .end_of_text = {}};
  auto const set = pw::balance(gpt2::model(sizes), std::vector<int>(static_cast<std::size_t>(stages), 8 / stages));
  auto const data = documents();
  outcome o;
  std::mutex mutex;
  pw::in_process::run(plan, [&](pw::in_process::endpoint& here) {
    auto training = pw::pipeline(plan.view(), set, here, pw::adamw(1e-2, 0.1), options);
    auto batches = gpt2::document_batches(data, {.micro_batches = 2,
                                                 .sequences = sequences_drawn / 2,
                                                 .context = 24,
                                                 .order = gpt2::sequence_order::shuffled,
                                                 .seed = 5});
    if (!run.resume_from.empty()) {
      gpt2::saved_training const saved(run.resume_from);
      saved.load(training);
      batches.seek(saved.record().cursor);
    }
    std::vector<double> losses;
    for (int step = 0; step < run.steps; ++step) {
      auto const told = training.step(batches.next());
      if (told.has_loss) losses.push_back(told.loss);
      if (step + 1 == run.drain_after) training.drain();
    }
    training.drain();
    if (!run.save_to.empty())
      gpt2::save_training(run.save_to, model, {.cursor = batches.cursor(), .settings = {{"who", "a \"test\""}}},
                          training, here);
    auto const lock = std::lock_guard(mutex);
    if (!losses.empty()) o.losses = losses;
    training.for_each_parameter([&](int, std::string_view name, std::span<float> values, pw::parameter_options) {
      o.weights[std::string(name)].assign(values.begin(), values.end());
    });
  });
  return o;
}

/// Five steps one way and five another, through a checkpoint, have the bits of ten.
void goes_on(way const& first, way const& second) {
  CAPTURE(first.schedule);
  CAPTURE(first.ranks);
  CAPTURE(second.schedule);
  CAPTURE(second.ranks);
  auto const here = folder();
  auto const straight = train(second, {.steps = 10, .drain_after = 5});
  auto const before = train(first, {.steps = 5, .save_to = here.path});
  auto const after = train(second, {.steps = 5, .resume_from = here.path});
  auto losses = before.losses;
  losses.insert(losses.end(), after.losses.begin(), after.losses.end());
  CHECK(losses == straight.losses);
  CHECK((after.weights == straight.weights));
}

auto names_in(fs::path const& path) -> std::set<std::string> {
  std::set<std::string> names;
  for (auto const& each : fs::directory_iterator(path)) names.insert(each.path().filename());
  return names;
}

auto refusal(auto&& what) -> std::string {
  try {
    what();
  } catch (pw::error const& e) {
    return e.what();
  }
  return "";
}

/// All that save_training and saved_training want of a pipeline: one whose every number says how many steps there were.
struct counter {
  int count = 0;
  std::map<std::string, std::vector<float>> values;

  explicit counter(gpt2::configuration const& c) {
    for (auto const& p : gpt2::all_tensors(c)) values[p.name].resize(p.size());
  }
  void set(int to) {
    count = to;
    for (auto& [name, each] : values) std::ranges::fill(each, static_cast<float>(to));
  }
  void drain() {}
  [[nodiscard]] auto steps() const -> std::int64_t { return count; }
  [[nodiscard]] auto updates(int) const -> std::int64_t { return count; }
  void resume(std::int64_t steps, auto&&) { count = static_cast<int>(steps); }
  void for_each_state(auto&& visit) {
    for (auto& [name, each] : values) {
      std::array<std::span<float>, 1> const states{each};
      visit(0, std::string_view(name), std::span(each), pw::parameter_options{}, states);
    }
  }
};

void alone(auto&& what) { pw::in_process::run(pw::make_plan("sequential", {.ranks = 1, .micro_batches = 1}), what); }

}  // namespace

TEST_CASE("synchronous schedules and 2BW go on with other numbers of ranks") {
  way const from{"gpipe", 4};
  goes_on(from, {"flush", 2});
  goes_on(from, {"sequential", 1});
  goes_on({"interleaved", 2, 2}, {"flush", 4});
  goes_on({"flush", 4, 1, true}, {"gpipe", 2, 1, true});
  goes_on({"sequential", 4}, {"interleaved", 2, 4});
  for (int const ranks : {2, 1}) goes_on({"2bw", 2}, {"2bw", ranks});
}

TEST_CASE("stashing and vertical sync go on with the same number of ranks") {
  goes_on({"1f1b", 4}, {"1f1b", 4});
  goes_on({"1f1b-vsync", 4}, {"1f1b-vsync", 4});
}

TEST_CASE("a checkpoint is a model that others open, and says where the training was") {
  for (bool const tied : {false, true}) {
    auto const here = folder();
    auto const trained = train({"flush", 2, 1, tied}, {.steps = 3, .save_to = here.path});
    CHECK(names_in(here.path) == std::set<std::string>{"step-3"});
    gpt2::saved_training const saved(here.path);
    CHECK(saved.folder() == here.path / "step-3");
    CHECK(saved.record() ==
          gpt2::training_record{
              .steps = 3, .cursor = 3 * sequences_drawn, .states = 2, .settings = {{"who", "a \"test\""}}});
    CHECK(saved.updates(0) == 3);
    auto [said, model] = test::loaded(here.path / "step-3");  // as any model of Hugging Face's
    CHECK(said.sizes == sizes);
    CHECK(said.tied == tied);
    int compared = 0;
    model.weights.for_each_parameter([&](std::string_view name, auto values, pw::parameter_options) {
      CHECK(std::ranges::equal(values, trained.weights.at(std::string(name))));
      ++compared;
    });
    CHECK(compared == static_cast<int>(trained.weights.size()));
  }
}

TEST_CASE("the newest checkpoints stay, and leftovers of a killed program go") {
  auto const here = folder();
  auto const model = gpt2::hugging_face_model{.sizes = test::sizes, .end_of_text = {}};
  alone([&](pw::in_process::endpoint& end) {
    counter training(test::sizes);
    for (auto const* left : {".step-4.part", ".step-2.old"}) {
      fs::create_directories(here.path / left);
      std::ofstream(here.path / left / "half") << "half";
    }
    std::ofstream(here.path / "mine") << "keep";
    fs::create_directories(here.path / ".mine.part");
    for (int const step : {9, 10, 11}) {
      training.set(step);
      gpt2::save_training(here.path, model, {}, training, end, 2);
    }
  });
  CHECK(names_in(here.path) == std::set<std::string>{".mine.part", "mine", "step-10", "step-11"});
  CHECK(gpt2::saved_training(here.path).record().steps == 11);
  CHECK(gpt2::saved_training(here.path / "step-10").record().steps == 10);
}

TEST_CASE("a save killed at any moment leaves the last good checkpoint") {
  auto const here = folder();
  auto const model = gpt2::hugging_face_model{.sizes = test::sizes, .tied = false, .end_of_text = {}};
  auto const save = [&](int from, int to, auto const& saved) {
    alone([&](pw::in_process::endpoint& end) {
      counter training(test::sizes);
      for (int step = from; step < to; ++step) {
        training.set(step);
        gpt2::save_training(here.path, model, {.cursor = step}, training, end);
        saved();
      }
    });
  };
  auto const begin = std::chrono::steady_clock::now();
  save(1, 3, [] {});
  std::chrono::duration<double> const both = std::chrono::steady_clock::now() - begin;
  auto engine = std::mt19937(6);
  int last = 2;
  for (int round = 0; round < 20; ++round) {
    int said[2];  // a byte for each whole save, so that the kill falls in a later one however slow the machine is
    REQUIRE(pipe(said) == 0);
    auto const child = fork();
    REQUIRE(child >= 0);
    if (child == 0) save(last + 1, INT_MAX, [&] { REQUIRE(write(said[1], "", 1) == 1); });
    close(said[1]);
    char byte;
    CHECK(read(said[0], &byte, 1) == 1);
    std::this_thread::sleep_for(both * (engine() % 1000) / 1000.);
    kill(child, SIGKILL);
    REQUIRE(waitpid(child, nullptr, 0) == child);
    close(said[0]);
    gpt2::saved_training const saved(here.path);
    auto const steps = static_cast<int>(saved.record().steps);
    REQUIRE(steps > last);
    CHECK(saved.record().cursor == steps);
    CHECK(saved.updates(0) == steps);
    counter all(test::sizes);
    saved.load(all);
    CHECK(all.count == steps);
    for (auto const& [name, values] : all.values)
      CHECK(std::ranges::all_of(values, [&](float v) { return v == static_cast<float>(steps); }));
    last = steps;
  }
}

TEST_CASE("what cannot be saved leaves nothing behind") {
  auto const here = folder();
  auto const model = gpt2::hugging_face_model{.sizes = test::sizes, .end_of_text = {}};
  auto const save = [&](fs::path const& to, gpt2::hugging_face_model const& m, int step) {
    return refusal([&] {
      alone([&](pw::in_process::endpoint& end) {
        counter training(test::sizes);
        training.set(step);
        gpt2::save_training(to, m, {}, training, end);
      });
    });
  };
  CHECK(save(here.path, model, 1).empty());
  auto other = model;
  other.sizes.layers = 2;
  CHECK(save(here.path, other, 2).find("not the parameter of a GPT-2 of these sizes") != std::string::npos);
  auto const before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  auto small = limit;
  small.rlim_cur = 5000;
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);  // as a full disk
  auto const sentence = save(here.path, model, 2);
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, before);
  CHECK(sentence.find("File too large") != std::string::npos);
  CHECK(names_in(here.path) == std::set<std::string>{"step-1"});
  std::ofstream(here.path / "file") << "no folder";
  CHECK(save(here.path / "file", model, 1).find("cannot write") != std::string::npos);
}

TEST_CASE("what is no checkpoint, or not this one's, is refused") {
  auto const here = folder();
  CHECK(refusal([&] { gpt2::saved_training{here.path}; }).find("holds no checkpoint of a training") !=
        std::string::npos);
  train({"flush", 2}, {.steps = 1, .save_to = here.path});
  auto const path = here.path / "step-1";
  gpt2::saved_training const saved(here.path);
  counter one(sizes);
  CHECK(refusal([&] { saved.load(one); }).find("with 1 arrays of an optimizer") != std::string::npos);
  counter other(test::sizes);
  CHECK(refusal([&] { saved.load(other); }) != "");

  auto const without = [&](char const* name) {
    auto const moved = folder();
    fs::copy(path, moved.path / "it");
    fs::remove(moved.path / "it" / name);
    return refusal([&] { gpt2::saved_training{moved.path / "it"}; });
  };
  for (auto const* name : {"training.json", "config.json", "model-00003-of-00008.safetensors",
                           "model.safetensors.index.json", "optimizer-00008-of-00008.safetensors"}) {
    CAPTURE(name);
    CHECK(without(name) != "");
  }
  CHECK(without("no such file").empty());
}
