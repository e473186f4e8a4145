// SPDX-License-Identifier: Apache-2.0
// What the stages promise: the laws of stages, with and without dropout; bits; how weights start.
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <laws/stage.hpp>

#include <pipewright/gpt2/model.hpp>
#include <pipewright/transport/parts.hpp>

#include "reference.hpp"
#include "whole_model.hpp"

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
using reference::narrowed;
using reference::random_values;
using test::backend;

namespace pipewright::inline v0::gpt2 {
template<class B>
void for_each_number(activations<B>& value, auto visit) {
  for (auto& each : value.values) visit(each);
}
template<class B>
void for_each_number(activations<B> const& value, auto visit) {
  for (auto const& each : value.values) visit(each);
}
void for_each_number(token_batch&, auto) {}
}  // namespace pipewright::inline v0::gpt2

namespace {

constexpr auto batch = gpt2::batch_shape{2, 3};

auto small(float dropout) -> gpt2::configuration {
  return {.vocabulary = 11,
          .positions = 4,
          .width = 8,
          .heads = 2,
          .layers = 2,
          .embedding_dropout = dropout,
          .attention_dropout = dropout,
          .residual_dropout = dropout};
}

auto some_activations(unsigned seed) -> gpt2::activations<backend> {
  auto const values = narrowed(random_values(batch.tokens() * 8, seed));
  return {batch, {values.begin(), values.end()}};
}

auto some_tokens() -> gpt2::token_batch { return {batch, {1, 10, 0, 3, 3, 7}}; }
auto some_targets() -> gpt2::token_batch { return {batch, {10, 0, 4, 3, 7, -1}}; }

// Weights as after some training: norms and biases not trivial, so that every gradient shows.
template<class S>
struct trained : S {
  using S::S;
  void initialize(pw::stage_context const& context, typename S::weights& w) {
    S::initialize(context, w);
    auto seed = 100u;
    w.for_each_parameter([&](std::string_view, auto values, pw::parameter_options) {
      auto const noise = random_values(values.size(), seed++, 0.3);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] += static_cast<float>(noise[i]);
    });
  }
};

}  // namespace

TEST_CASE("the stages keep the laws of stages") {
  for (auto const p : {0.f, 0.3f}) {
    CAPTURE(p);
    auto const c = small(p);
    auto const context = pw::stage_context{.layer = 2, .micro_batch = 5, .step = 9, .seed = 3};
    using embedding = trained<gpt2::embedding<backend>>;
    using block = trained<gpt2::block<backend>>;
    using head = trained<gpt2::head<backend>>;
    laws::check_stage(laws::example<embedding>{.make = [c] { return embedding(c); },
                                               .input = some_tokens(),
                                               .output_gradient = some_activations(2),
                                               .context = context,
                                               .step = 1e-2,
                                               .tolerance = 2e-3});
    laws::check_stage(laws::example<block>{.make = [c] { return block(c, 1); },
                                           .input = some_activations(1),
                                           .output_gradient = some_activations(2),
                                           .context = context,
                                           .step = 1e-2,
                                           .tolerance = 4e-3});
    for (auto const over : {gpt2::token_loss::mean, gpt2::token_loss::sum}) {
      laws::check_stage(laws::example<head>{.make = [c, over] { return head(c, over); },
                                            .input = some_activations(1),
                                            .target = some_targets(),
                                            .context = context,
                                            .step = 1e-2,
                                            .tolerance = 2e-3});
    }
  }
}

TEST_CASE("the whole model's backward in halves is the whole backward, bit for bit") {
  for (auto const p : {0.f, 0.2f}) {
    auto model = test::whole_model(small(p));
    auto const context = pw::stage_context{.micro_batch = 1, .step = 4, .seed = 8};
    model.forward(context, some_tokens(), some_targets());
    model.backward(context);
    auto const whole = test::by_name(model.gradients);
    model.clear();
    model.forward(context, some_tokens(), some_targets());
    model.backward_in_halves(context);
    CHECK(test::by_name(model.gradients) == whole);
  }
}

TEST_CASE("dropout follows the key and rests in evaluation") {
  auto model = test::whole_model(small(0.5f));
  auto const loss = [&](pw::stage_context const& context) {
    return model.forward(context, some_tokens(), some_targets()).value;
  };
  auto const base = pw::stage_context{.seed = 1};
  auto const again = loss(base);
  CHECK(loss(base) == again);
  auto elsewhere = base;
  elsewhere.rank = 3;
  elsewhere.stage = 2;
  elsewhere.recomputing = true;
  CHECK(loss(elsewhere) == again);
  std::set<double> losses{again};
  auto changed = base;
  changed.step = 1;
  losses.insert(loss(changed));
  changed = base;
  changed.micro_batch = 1;
  losses.insert(loss(changed));
  changed = base;
  changed.seed = 2;
  losses.insert(loss(changed));
  changed = base;
  changed.layer = 1;
  losses.insert(loss(changed));
  changed = base;
  changed.replica = 1;
  losses.insert(loss(changed));
  CHECK(losses.size() == 6);

  auto evaluation = base;
  evaluation.training = false;
  auto plain = test::whole_model(small(0.f));
  CHECK(loss(evaluation) == plain.forward(base, some_tokens(), some_targets()).value);
}

TEST_CASE("weights start as Hugging Face's do, by seed and name, whatever the cut") {
  auto c = gpt2::configuration{.vocabulary = 256, .positions = 64, .width = 64, .heads = 4, .layers = 4};
  auto model = test::whole_model(c, {.seed = 42});
  auto const all = test::by_name(model.weights);
  CHECK(all.size() == 2 + 4 * 12 + 3);
  for (auto const& [name, values] : all) {
    CAPTURE(name);
    auto mean = 0.;
    auto squares = 0.;
    for (auto const v : values) {
      mean += v / static_cast<double>(values.size());
      squares += static_cast<double>(v) * v / static_cast<double>(values.size());
    }
    if (name.ends_with("bias")) {
      CHECK(squares == 0.);
    } else if (name.find("ln_") != std::string::npos) {
      CHECK(mean == 1.);
      CHECK(squares == 1.);
    } else {
      auto const deviation = name.ends_with("c_proj.weight") ? 0.02 / std::sqrt(2. * 4) : 0.02;
      CHECK(std::abs(mean) < 5 * deviation / std::sqrt(static_cast<double>(values.size())));
      CHECK(std::sqrt(squares) ==
            doctest::Approx(deviation).epsilon(4 / std::sqrt(2. * static_cast<double>(values.size()))));
    }
  }
  CHECK(all.at("lm_head.weight") == all.at("wte.weight"));
  CHECK(all.at("h.0.mlp.c_fc.weight") != all.at("h.1.mlp.c_fc.weight"));

  auto alone = gpt2::block<backend>(c, 3);
  decltype(alone)::weights w;
  alone.initialize(pw::stage_context{.rank = 2, .stage = 5, .layer = 4, .seed = 42}, w);
  for (auto const& [name, values] : test::by_name(w)) CHECK(values == all.at(name));
  alone.initialize(pw::stage_context{.seed = 43}, w);
  CHECK(test::by_name(w).at("h.3.mlp.c_fc.weight") != all.at("h.3.mlp.c_fc.weight"));
}

TEST_CASE("matrices decay, vectors do not") {
  auto model = test::whole_model(small(0.f));
  model.weights.for_each_parameter([](std::string_view name, auto values, pw::parameter_options options) {
    CAPTURE(name);
    auto const vector = name.ends_with("bias") || name.find("ln_") != std::string_view::npos;
    CHECK(options.decay == !vector);
    CHECK(!options.frozen);
    CHECK(reinterpret_cast<std::uintptr_t>(values.data()) % 64 == 0);
  });
}

TEST_CASE("the parts of boundaries and saved values are counted") {
  auto const x = some_activations(1);
  CHECK(pw::bytes_of(x) == 2 * sizeof(int) + 6 * 8 * 4);
  CHECK(pw::bytes_of(some_tokens()) == 2 * sizeof(int) + 6 * 4);
  auto model = test::whole_model(small(0.f));
  model.forward({}, some_tokens(), some_targets());
  auto const& block = std::get<1>(model.saved.layers).layers.at(0);
  CHECK(pw::bytes_of(block) == 4 * (6 * (15 * 8 + 2 + 4) + 4 * 8));
  auto const& head = std::get<2>(model.saved.layers);
  CHECK(pw::bytes_of(head) == 4 * (6 * (8 + 11 + 3) + 2 * 8));
}

TEST_CASE("wrong sizes and tokens are refused with a sentence") {
  auto const refused = [](gpt2::configuration c) { CHECK_THROWS_AS(gpt2::check(c), pw::error); };
  gpt2::check(small(0.f));
  auto c = small(0.f);
  c.heads = 3;
  CHECK_THROWS_WITH_AS(gpt2::check(c),
                       "GPT-2: width 8 is not a multiple of 3 heads; choose a width that the heads divide", pw::error);
  c = small(0.f);
  c.layers = 0;
  refused(c);
  c = small(1.f);
  refused(c);
  c = small(-0.1f);
  refused(c);
  c = small(0.f);
  c.vocabulary = -5;
  refused(c);

  auto model = test::whole_model(small(0.f));
  auto const run = [&](gpt2::token_batch const& x, gpt2::token_batch const& t) { model.forward({}, x, t); };
  auto x = some_tokens();
  x.ids[2] = 11;
  CHECK_THROWS_WITH_AS(run(x, some_targets()), "GPT-2: token 11 is outside the vocabulary of 11", pw::error);
  x.ids[2] = -1;
  CHECK_THROWS_AS(run(x, some_targets()), pw::error);
  x = {{1, 5}, {0, 0, 0, 0, 0}};
  CHECK_THROWS_AS(run(x, x), pw::error);
  x = some_tokens();
  x.ids.pop_back();
  CHECK_THROWS_AS(run(x, some_targets()), pw::error);
  auto t = some_targets();
  t.ids[0] = 11;
  CHECK_THROWS_AS(run(some_tokens(), t), pw::error);
  t = some_targets();
  t.ids.push_back(0);
  CHECK_THROWS_AS(run(some_tokens(), t), pw::error);
  t = some_targets();
  for (auto& each : t.ids) each = -100;
  CHECK(model.forward({}, some_tokens(), t).value == 0.);
}
