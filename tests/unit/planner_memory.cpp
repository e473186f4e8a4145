// SPDX-License-Identifier: Apache-2.0
// What the planner says that a rank holds, against what the engine's slots and weights hold after training: every byte.
// thread sanitizer: --full
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <support/held_bytes.hpp>
#include <support/scalar_model.hpp>

#include <pipewright/partition/rank_memory.hpp>
#include <pipewright/pipewright.hpp>

namespace pw = pipewright;

namespace {

using floats = std::vector<float>;

/// Numbers of floats of a stage, all different.
struct sizes {
  std::size_t input, output, saved, parameters;
  static sizes of(int stage) {
    auto const s = static_cast<std::size_t>(stage);
    return {3 + 2 * s, 3 + 2 * (s + 1), 50 + 11 * s, 20 + 7 * s};
  }
};

struct numbers {
  floats values;
  void for_each_parameter(auto&& visit) { visit(std::string_view{"w"}, std::span{values}, pw::parameter_options{}); }
};

struct sized {
  using input = floats;
  using output = floats;
  using weights = numbers;
  using gradients = numbers;
  using saved = floats;

  int index;

  void initialize(pw::stage_context const&, numbers& w) const { w.values.assign(sizes::of(index).parameters, 0.5f); }
  void forward(auto&, numbers const& w, floats const& x, floats& y, floats& s) const {
    s.assign(sizes::of(index).saved, x[0]);
    y.assign(sizes::of(index).output, x[0] * w.values[0]);
  }
  void backward(auto&, numbers const& w, floats& s, floats const& dy, floats& dx, numbers& g) const {
    dx.assign(sizes::of(index).input, dy[0] * w.values[0]);
    g.values[0] += dy[0] * s[0];
  }
};
struct first_sized : sized {
  using input_gradient = pw::nothing;
  void backward(auto&, numbers const&, floats& s, floats const& dy, pw::nothing&, numbers& g) const {
    g.values[0] += dy[0] * s[0];
  }
};
struct last_sized : sized {
  using target = pw::nothing;
  pw::loss forward(auto&, numbers const&, floats const& x, target const&, floats& s) const {
    s.assign(sizes::of(index).saved, x[0]);
    return {.value = x[0]};
  }
  void backward(auto&, numbers const&, floats&, floats& dx, numbers& g) const {
    dx.assign(sizes::of(index).input, 1.f);
    g.values[0] += 1;
  }
};

struct sized_model {
  int stages;
  using input = floats;
  using last = last_sized;
  int size() const { return stages; }
  void visit(int index, auto&& f) const {
    if (index == 0) f(first_sized{index});
    else if (index + 1 == stages) f(last_sized{{index}});
    else f(sized{index});
  }
};

struct batch {
  void input(int, floats& x) const { x.assign(sizes::of(0).input, 1.f); }
  void target(int, pw::nothing&) const {}
};

/// One layer a stage, of the bytes above.
pw::model_profile profile_of(int stages) {
  pw::model_profile p;
  auto const bytes = [](std::size_t floats) { return static_cast<double>(floats * sizeof(float)); };
  p.input = bytes(sizes::of(0).input);
  for (int s = 0; s < stages; ++s) {
    auto const n = sizes::of(s);
    p.layers.push_back({.forward = 1,
                        .saved = bytes(n.saved),
                        .output = s + 1 < stages ? bytes(n.output) : 0,
                        .parameters = bytes(n.parameters),
                        .gradients = bytes(n.parameters),
                        .optimizer = bytes(n.parameters)});  // sgd's momentum
  }
  return p;
}

void compare(std::string const& schedule, pw::shape shape, pw::recompute_mode mode) {
  CAPTURE(schedule);
  CAPTURE(shape.ranks);
  auto const plan = pw::make_plan(schedule, shape, {.recompute = mode});
  int const stages = pw::plan_view(plan).stages();
  auto const predicted =
      pw::memory_of_ranks(plan, profile_of(stages), std::vector<int>(static_cast<std::size_t>(stages), 1));
  support::check_held(predicted, support::held_bytes(plan, sized_model{stages}, batch{}, pw::sgd{.rate = 0}));
}

}  // namespace

TEST_CASE("bytes are known of a rank's own stages, and of a stream once it is drained") {
  auto const plan = pw::make_plan("1f1b", {.ranks = 2, .micro_batches = 6});
  pw::in_process::run(2, [&](auto& here) {
    auto training = pw::pipeline(plan, sized_model{2}, here, pw::sgd{.rate = 0});
    int const own = here.rank(), other = 1 - own;
    CHECK_THROWS_WITH_AS(training.bytes(other),
                         ("stage " + std::to_string(other) + " is not one of those of rank " + std::to_string(own) +
                          ", so that it does not know its bytes")
                             .c_str(),
                         pw::error);
    CHECK_THROWS_AS(training.bytes(-1), pw::error);
    training.step(batch{});
    CHECK_THROWS_WITH_AS(training.bytes(),
                         "micro-batches are in flight, whose slots change at any time; call drain() before asking for "
                         "bytes()",
                         pw::error);
    training.drain();
    CHECK(training.bytes(own).weights == training.bytes().weights);
  });
}

TEST_CASE("what a second forward gives is held where there is one") {
  auto const plan = pw::make_plan("gpipe", {.ranks = 2, .micro_batches = 2}, {.recompute = pw::recompute_mode::always});
  auto const held = [&](pw::recompute_mode mode) {
    std::size_t bytes = 0;
    pw::in_process::run(2, [&](auto& here) {
      auto const set = pw::recompute_each(toys::scalar_model{{1, 1}}, mode);
      auto training = pw::pipeline(plan, set, here, pw::sgd{.rate = 0.});
      if (here.rank() == 0) bytes = training.bytes().boundaries;
    });
    return bytes;
  };
  CHECK(held(pw::recompute_mode::always) == held(pw::recompute_mode::never) + sizeof(double));
}

TEST_CASE("every schedule, number of ranks and mode of recomputation") {
  for (std::string const schedule : {"sequential", "gpipe", "1f1b", "1f1b-vsync", "2bw", "flush", "interleaved"})
    for (int const ranks : {2, 3, 4}) {
      int const chunks = schedule == "interleaved" ? 2 : 1;
      pw::shape const shape{.ranks = ranks, .micro_batches = 6, .chunks = chunks};
      for (auto const mode : pw::recompute_modes) compare(schedule, shape, mode);
    }
}
