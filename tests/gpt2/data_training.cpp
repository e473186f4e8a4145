// SPDX-License-Identifier: Apache-2.0
// Padded batches train: of a length that differs from step to step, the same bits under each schedule; and
// padding has no part in a loss on real tokens.
#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/gpt2/document_batches.hpp>
#include <pipewright/gpt2/model.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/transport/in_process.hpp>

#include "reference.hpp"
#include "whole_model.hpp"

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;

namespace {

auto texts() -> std::vector<std::string> {
  return {"A short one.",
          "A",
          "This one is a good deal longer than the others, and it is cut.",
          "Padding follows.",
          "One more text of some length",
          "The last",
          "Seven",
          "Eight are many",
          "Nine!"};
}
auto documents() -> gpt2::sequences { return gpt2::sequences::of_documents(texts(), &gpt2::byte_tokenizer::encode); }

constexpr auto sizes = gpt2::configuration{.vocabulary = 256, .positions = 32, .width = 16, .heads = 2, .layers = 2};

struct outcome {
  std::vector<double> losses;
  std::map<std::string, std::vector<float>> weights;
};

struct run_of {
  char const* schedule;
  int ranks;
  gpt2::loss_on loss = gpt2::loss_on::all;
  int steps = 6;
};

auto train(run_of const& run) -> outcome {
  auto const real = run.loss == gpt2::loss_on::real;
  auto const options =
      pw::pipeline_options{.seed = 3, .scale = real ? pw::loss_scale::per_token : pw::loss_scale::mean};
  auto const plan =
      pw::make_plan(run.schedule, {.ranks = run.ranks, .micro_batches = 2}, {.step_facts = options.needs_step_facts()});
  auto cut = std::vector<int>{4};
  if (run.ranks == 2) cut = {1, 3};
  auto const stages =
      pw::balance(gpt2::model(sizes, real ? gpt2::token_loss::sum : gpt2::token_loss::mean), std::move(cut));
  auto const data = documents();
  outcome o;
  std::mutex mutex;
  pw::in_process::run(plan, [&](pw::in_process::endpoint& here) {
    auto training = pw::pipeline(plan.view(), stages, here, pw::adamw(1e-2, 0.1), options);
    auto batches = gpt2::document_batches(data, {.micro_batches = 2,
                                                 .sequences = 2,
                                                 .context = 32,
                                                 .padding = 0,
                                                 .loss = run.loss,
                                                 .order = gpt2::sequence_order::shuffled,
                                                 .seed = 5});
    std::set<int> lengths;
    for (int step = 0; step < run.steps; ++step) {
      auto const batch = batches.next();
      lengths.insert(batch.length());
      auto const told = training.step(batch);
      auto const lock = std::lock_guard(mutex);
      if (told.has_loss) o.losses.push_back(told.loss);
    }
    auto const lock = std::lock_guard(mutex);
    CHECK(lengths.size() > 2);
    training.for_each_parameter([&](int, std::string_view name, std::span<float> values, pw::parameter_options) {
      o.weights[std::string(name)].assign(values.begin(), values.end());
    });
  });
  return o;
}

}  // namespace

TEST_CASE("batches whose length differs from step to step train to the same bits under each schedule") {
  for (auto const loss : {gpt2::loss_on::all, gpt2::loss_on::real}) {
    auto const expected = train({.schedule = "sequential", .ranks = 1, .loss = loss});
    CHECK(expected.losses.back() < expected.losses.front());
    for (auto const* schedule : {"gpipe", "flush"}) {
      CAPTURE(schedule);
      auto const found = train({.schedule = schedule, .ranks = 2, .loss = loss});
      CHECK(found.losses == expected.losses);
      CHECK((found.weights == expected.weights));
    }
  }
}

TEST_CASE("a loss on real tokens is that of every text by itself, and so is its gradient") {
  auto const data = documents();
  auto how = gpt2::batching{.sequences = 9, .context = 32, .padding = 7, .loss = gpt2::loss_on::real};
  auto const batch = gpt2::document_batches(data, how).next();
  auto const sum_model = [] { return test::whole_model(sizes, {}, gpt2::token_loss::sum); };
  pw::stage_context context;
  gpt2::token_batch x, t;
  batch.input(0, x), batch.target(0, t);
  auto padded = sum_model();
  auto const told = padded.forward(context, x, t);
  padded.backward(context);

  auto alone = sum_model();
  auto loss = 0.;
  how.sequences = 1;
  auto one_by_one = gpt2::document_batches(data, how);
  for (std::size_t i = 0; i < data.size(); ++i) {
    auto const one = one_by_one.next();
    CHECK(one.length() == std::min<int>(32, static_cast<int>(data.length(i))));  // nothing is padded
    one.input(0, x), one.target(0, t);
    loss += alone.forward(context, x, t).value;
    alone.backward(context);
  }
  CHECK(told.weight == batch.counted());
  CHECK(std::abs(told.value - loss) < 1e-6 * loss);
  auto const expected = test::by_name(alone.gradients);
  for (auto const& [name, values] : test::by_name(padded.gradients)) {
    CAPTURE(name);
    CHECK(reference::distance(values, expected.at(name)) < 1e-5);
  }
}
