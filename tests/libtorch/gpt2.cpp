// SPDX-License-Identifier: Apache-2.0
// GPT-2 of torch's modules: Hugging Face's numbers (fixtures of tests/gpt2), the host GPT-2's dropout, its files, and every
// schedule.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gpt2/reference.hpp>
#include <gpt2/saved_models.hpp>
#include <gpt2/trained.hpp>
#include <gpt2/whole_model.hpp>
#include <support/doctest_with_torch.hpp>
#include <support/engine_matrix.hpp>
#include <torch/torch.h>

#include <pipewright/gpt2_libtorch/model.hpp>
#include <pipewright/stage/recompute.hpp>

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
namespace of_torch = pipewright::gpt2_libtorch;
using gpt2::configuration;
using gpt2::token_batch;
using pw::weight_rule;
using reference::distance;

namespace {

constexpr auto tolerance = 1e-5;  // relative to each tensor's norm

/// A GPT-2 of torch's in one piece, driven by hand.
template<class S> struct whole {
  S stage;
  typename S::weights weights{};
  typename S::gradients gradients{};
  typename S::saved saved{};

  whole(S made, pw::stage_context const& context) : stage(std::move(made)) {
    stage.initialize(context, weights);
    gradients = pw::make_gradients<S>(weights);
  }
  pw::loss forward(pw::stage_context context, token_batch const& x, token_batch const& t) {
    return stage.forward(context, weights, x, t, saved);
  }
  void backward(pw::stage_context context) {
    pw::nothing none;
    stage.backward(context, weights, saved, none, gradients);
  }
  void load(auto const& from) {
    weights.for_each_parameter([&]<class T>(std::string_view name, std::span<T> values, pw::parameter_options) {
      auto const read = from.floats(gpt2::name_in(from, std::string(name)));
      REQUIRE(read.size() == values.size());
      std::ranges::copy(read, values.begin());
    });
  }
};

void with_whole(configuration const& c, pw::stage_context const& context, auto&& f) {
  pw::balance(of_torch::model(c), {gpt2::layer_count(c)}).visit(0, [&]<class S>(S made) {
    if constexpr (pw::loss_stage<S> && std::same_as<typename S::input, token_batch>)
      f(whole<S>(std::move(made), context));
  });
}

/// Values by name, of one element type.
template<class T = float> std::map<std::string, std::vector<T>> values_of(auto& parameters) {
  std::map<std::string, std::vector<T>> all;
  parameters.for_each_parameter([&](std::string_view name, auto values, pw::parameter_options) {
    all.emplace(name, std::vector<T>(values.begin(), values.end()));
  });
  return all;
}

std::vector<std::filesystem::path> fixtures() {
  std::vector<std::filesystem::path> files;
  for (auto const& each : std::filesystem::directory_iterator(test::fixtures))
    if (each.is_regular_file()) files.push_back(each.path());
  return files;
}

/// The logits of every token, by the modules themselves.
std::vector<float> logits_of(configuration const& c, auto const& from, token_batch const& tokens) {
  torch::NoGradGuard const no_graph;
  auto const fill = [&]<class M>(std::shared_ptr<M> module, std::string const& prefix) {
    module->eval();
    for (auto const& each : module->named_parameters()) {
      auto const values = from.floats(gpt2::name_in(from, prefix + each.key()));
      at::Tensor to = each.value();
      std::ranges::copy(values, to.mutable_data_ptr<float>());
    }
    return module;
  };
  at::Tensor x = fill(std::make_shared<of_torch::embedding>(c), "")->forward(tokens);
  for (int i = 0; i < c.layers; ++i)
    x = fill(std::make_shared<of_torch::block>(c), "h." + std::to_string(i) + ".")->forward(x);
  at::Tensor const logits =
      fill(std::make_shared<of_torch::head>(c, gpt2::token_loss::mean), "")->logits(x).contiguous();
  return {logits.const_data_ptr<float>(), logits.const_data_ptr<float>() + logits.numel()};
}

constexpr configuration with_dropout{.vocabulary = 13,
                                     .positions = 7,
                                     .width = 16,
                                     .heads = 2,
                                     .layers = 6,
                                     .embedding_dropout = 0.1F,
                                     .attention_dropout = 0.2F,
                                     .residual_dropout = 0.3F};

/// Every micro-batch of every step has tokens of its own; the length differs from step to step.
struct tokens_of {
  int step;
  void input(int micro_batch, token_batch& to) const { fill(micro_batch, 1, to); }
  void target(int micro_batch, token_batch& to) const { fill(micro_batch, 5, to); }
  void fill(int micro_batch, int factor, token_batch& to) const {
    int const length = 3 + step % 3;
    to.batch = {2, length};
    to.ids.resize(static_cast<std::size_t>(2 * length));
    for (int i = 0; i < 2 * length; ++i)
      to.ids[static_cast<std::size_t>(i)] = (factor * (i * i + 3 * micro_batch) + 7 * step) % 13;
  }
};

}  // namespace

TEST_CASE("logits, loss and gradients are Hugging Face's") {
  at::set_num_threads(1);
  auto const files = fixtures();
  REQUIRE(files.size() == 5);
  auto worst = 0.;
  for (auto const& path : files) {
    CAPTURE(path.filename().string());
    auto const file = pw::safetensors::file(path);
    auto const number = [&](char const* key) { return std::stoi(file.metadata().at(key)); };
    auto const c = configuration{.vocabulary = number("vocabulary"),
                                 .positions = number("positions"),
                                 .width = number("width"),
                                 .heads = number("heads"),
                                 .layers = number("layers")};
    auto const tokens = [&](char const* key) -> token_batch {
      auto const& shape = file.at(key).shape;
      return {{static_cast<int>(shape.at(0)), static_cast<int>(shape.at(1))}, file.integers(key)};
    };
    auto const x = tokens("tokens"), t = tokens("targets");
    CHECK(distance(logits_of(c, file, x), file.floats("logits")) < tolerance);
    with_whole(c, {}, [&](auto model) {
      model.load(file);
      auto const loss = model.forward({}, x, t);
      auto const expected_loss = static_cast<double>(file.floats("loss").at(0));
      CHECK(std::abs(loss.value - expected_loss) / expected_loss < tolerance);
      CHECK(static_cast<std::ptrdiff_t>(loss.weight) == std::ranges::count_if(t.ids, [](auto id) { return id >= 0; }));
      model.backward({});
      auto gradients = values_of(model.gradients);
      if (number("tied") == 1) {  // Hugging Face's one tensor is our two
        auto const& copy = gradients.at("lm_head.weight");
        auto& sum = gradients.at("wte.weight");
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += copy[i];
        gradients.erase("lm_head.weight");
      }
      auto expected = 0;
      for (auto const& [name, tensor] : file.tensors()) expected += name.starts_with("gradient.");
      CHECK(static_cast<int>(gradients.size()) == expected);
      for (auto const& [name, values] : gradients) {
        CAPTURE(name);
        auto const off = distance(values, file.floats("gradient." + name));
        CHECK(off < tolerance);
        worst = std::max(worst, off);
      }
    });
  }
  MESSAGE("largest relative distance of a gradient: ", worst);
}

TEST_CASE("Adam and AdamW reach PyTorch's weights") {
  auto const model = [](configuration const& c) { return of_torch::model(c); };
  using test::learning_rate;
  test::check_training("saved_untied", "adam", pw::adam{.rate = learning_rate}, model);
  test::check_training("saved_untied", "adamw", pw::adamw(learning_rate, 0.1), model);
  test::check_training("saved_tied_shards", "adamw_tied", pw::adamw(learning_rate, 0.1), model);
}

TEST_CASE("a checkpoint of Hugging Face's is computed and saved again as by the host GPT-2") {
  for (auto const* name : {"saved_tied_shards", "saved_untied", "saved_bare"}) {
    CAPTURE(name);
    auto const said = gpt2::read_configuration(test::fixtures / name);
    auto const from = test::st::checkpoint(test::fixtures / name);
    auto const expected = test::st::file(test::fixtures / name / "expected.safetensors");
    if (expected.contains("logits"))
      CHECK(distance(logits_of(said.sizes, from, test::tokens_in(expected)), expected.floats("logits")) < tolerance);
    with_whole(said.sizes, {}, [&](auto model) {
      model.load(from);
      auto const values = values_of(model.weights);
      auto const here = test::folder();
      gpt2::save(here.path, said, test::views_of(values));
      auto [again, host] = test::loaded(here.path);
      CHECK(again == said);
      CHECK(test::by_name(host.weights) == values);
    });
  }
}

TEST_CASE("first values are the host GPT-2's bits, and with dropout its losses and gradients") {
  auto const context = pw::stage_context{.micro_batch = 2, .step = 3, .seed = 9};
  auto host = test::whole_model(with_dropout, context);
  token_batch x, t;
  tokens_of{1}.input(1, x);
  tokens_of{1}.target(1, t);
  t.ids[2] = -1;
  with_whole(with_dropout, context, [&](auto model) {
    CHECK(values_of(model.weights) == test::by_name(host.weights));
    auto const of_host = host.forward(context, x, t), found = model.forward(context, x, t);
    CHECK(std::abs(found.value - of_host.value) < 1e-6 * of_host.value);
    CHECK(found.weight == of_host.weight);
    host.backward(context);
    model.backward(context);
    auto const expected = test::by_name(host.gradients);
    for (auto const& [name, values] : values_of(model.gradients)) {
      CAPTURE(name);
      // A bias that all keys share has a gradient of 0, and of rounding.
      if (!name.ends_with("c_attn.bias")) CHECK(distance(values, expected.at(name)) < tolerance);
    }
    auto evaluated = context;
    evaluated.training = false;
    auto const without = model.forward(evaluated, x, t);
    CHECK(std::abs(without.value - host.forward(evaluated, x, t).value) < 1e-6 * without.value);
    CHECK(without.value != found.value);
  });
}

TEST_CASE("what no GPT-2 can take is said") {
  with_whole(with_dropout, {}, [](auto model) {
    auto const refused = [&](token_batch const& x, token_batch const& t, char const* why) {
      CHECK_THROWS_WITH_AS(model.forward({}, x, t), doctest::Contains(why), pw::error);
    };
    token_batch const good{{1, 3}, {1, 2, 3}};
    refused({{1, 3}, {1, 2, 13}}, good, "token 13 is outside the vocabulary of 13");
    refused({{1, 8}, {1, 2, 3, 4, 5, 6, 7, 8}}, good, "does not fit 7 positions");
    refused(good, {{1, 2}, {1, 2}}, "2 targets for 3 tokens");
    refused(good, {{1, 3}, {1, 2, 99}}, "target 99 is outside the vocabulary");
  });
}

TEST_CASE("every schedule comes to the oracle's bits: dropout, tied weights, clipping, other lengths each step") {
  struct trained {
    std::string_view schedule;
    weight_rule rule = weight_rule::synchronous;
    int chunks = 1;
  };
  auto const cut = [](int stages) {
    return pw::balance(of_torch::model(with_dropout), std::vector<int>(static_cast<std::size_t>(stages), 8 / stages));
  };
  auto const batches = [](int step) { return tokens_of{step}; };
  auto const optimizer = pw::adamw(0.02, 0.1);
  for (bool const tied : {false, true})
    for (int const ranks : {1, 2, 4})
      for (auto const& [schedule, rule, chunks] :
           {trained{"sequential"}, trained{"gpipe"}, trained{"flush"},
            trained{"interleaved", weight_rule::synchronous, 2}, trained{"1f1b", weight_rule::stashing},
            trained{"1f1b-vsync", weight_rule::vertical_sync}, trained{"2bw", weight_rule::double_buffered}}) {
        if (tied && (rule == weight_rule::stashing || ranks * chunks == 1)) continue;
        CAPTURE(schedule);
        CAPTURE(ranks);
        CAPTURE(tied);
        support::mixture m{.options = {.seed = 7, .clip = tied ? 0.5 : 0.0}, .tied = tied};
        if (tied) m.options.tied = {"wte.weight", "lm_head.weight"};
        support::run_of const run{.calls = "ssdse", .options = m.options};
        pw::shape const shape{.ranks = ranks, .micro_batches = 4, .chunks = chunks};
        bool const synchronous = rule == weight_rule::synchronous;
        pw::shape const alone{.ranks = synchronous ? (tied ? 2 : 1) : ranks, .micro_batches = 4, .chunks = 1};
        auto const expected =
            support::train_serially(rule, alone, cut(alone.stages()), batches, optimizer, run, m.wants(alone.stages()));
        auto const plan = pw::make_plan(schedule, shape, m.wants(shape.stages()));
        auto const found = support::train_in_pipeline<float>(plan, cut(shape.stages()), batches, optimizer, run);
        CHECK(expected.losses.size() == 3);
        CHECK(found.losses == expected.losses);
        CHECK(found.evaluations == expected.evaluations);
        CHECK(found.weights == expected.weights);
      }
}
