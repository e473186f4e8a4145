// SPDX-License-Identifier: Apache-2.0
// GPT-2's CUDA backend, the whole model: logits, loss and every gradient against the host's backend, and against Hugging Face's
// (tests/gpt2/fixtures).
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <gpt2/reference.hpp>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/memory.hpp>
#include <pipewright/gpt2/load.hpp>
#include <pipewright/gpt2/model.hpp>
#include <pipewright/gpt2_cuda/attentions.hpp>
#include <pipewright/gpt2_cuda/backend.hpp>
#include <pipewright/safetensors/file.hpp>
#include <pipewright/stage/chain.hpp>
#include <pipewright/stage/parameters.hpp>
#include <pipewright/stage/repeated_layers.hpp>

namespace {

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
namespace cuda = pipewright::gpt2::cuda;
using reference::distance;

/// A GPT-2 in one piece, driven by hand.
template<class Backend> struct whole_model {
  using layers = pw::chain<gpt2::embedding<Backend>, pw::repeated_layers<gpt2::block<Backend>>, gpt2::head<Backend>>;
  gpt2::configuration configuration;
  layers stage;
  typename layers::weights weights;
  typename layers::gradients gradients;
  typename layers::saved saved;

  explicit whole_model(gpt2::configuration const& c, std::uint64_t seed = 0) : configuration(c), stage(make(c)) {
    stage.initialize(pw::stage_context{.seed = seed}, weights);
    gradients = pw::make_gradients<layers>(weights);
  }
  static auto make(gpt2::configuration const& c) -> layers {
    std::vector<gpt2::block<Backend>> blocks;
    for (int i = 0; i < c.layers; ++i) blocks.emplace_back(c, i);
    return layers(gpt2::embedding<Backend>(c), pw::repeated_layers(std::move(blocks)), gpt2::head<Backend>(c));
  }
  pw::loss forward(pw::stage_context context, gpt2::token_batch const& x, gpt2::token_batch const& t) {
    auto loss = stage.forward(context, weights, x, t, saved);
    loss.settle();
    return loss;
  }
  void backward(pw::stage_context context) {
    pw::nothing none;
    stage.backward(context, weights, saved, none, gradients);
  }
  std::map<std::string, std::vector<float>> gradients_by_name() {
    std::map<std::string, std::vector<float>> all;
    gradients.for_each_parameter([&](std::string_view name, auto values, pw::parameter_options) {
      all.emplace(name, std::vector<float>(values.begin(), values.end()));
    });
    return all;
  }
  /// Forward has turned them into their gradient: once more.
  std::vector<float> logits(gpt2::token_batch const& x) {
    gpt2::head<Backend> head(configuration);
    typename gpt2::head<Backend>::saved kept;
    auto& stream = std::get<1>(saved.between);
    head.project(std::get<2>(weights.layers), stream, kept);
    std::vector<typename Backend::value> rows(kept.d_logits.size());
    pw::cuda::download<typename Backend::value>(kept.d_logits.data(), rows);
    auto const stride = static_cast<std::size_t>(Backend::logits_stride(configuration.vocabulary));
    std::vector<float> all;
    for (std::size_t i = 0; i < x.ids.size(); ++i)
      for (std::size_t j = 0; j < static_cast<std::size_t>(configuration.vocabulary); ++j)
        all.push_back(rows[i * stride + j]);
    return all;
  }
};

gpt2::token_batch drawn_tokens(gpt2::batch_shape shape, int vocabulary, unsigned seed) {
  std::mt19937 engine(seed);
  gpt2::token_batch made{shape, {}};
  for (int i = 0; i < shape.tokens(); ++i)
    made.ids.push_back(static_cast<std::int32_t>(engine() % static_cast<unsigned>(vocabulary)));
  return made;
}

std::filesystem::path source_folder() {
  char const* const given = std::getenv("PIPEWRIGHT_SOURCE_DIR");  // where this runs elsewhere than it was built
  return given != nullptr ? given : PIPEWRIGHT_SOURCE_DIR;
}

/// Loss and every gradient of the device's against the host's, without dropout and, where it is asked for, with.
template<class T> void check_whole_model(gpt2::batch_shape shape, std::vector<float> const& dropouts) {
  double const near = std::is_same_v<T, float> ? 1e-5 : 1e-2;
#ifdef PIPEWRIGHT_ON_DEVICE
  gpt2::configuration c{.vocabulary = 1000, .positions = 160, .width = 192, .heads = 3, .layers = 4};
#else
  gpt2::configuration c{.vocabulary = 50, .positions = 20, .width = 32, .heads = 2, .layers = 2};
#endif
  for (float const p : dropouts) {
    CAPTURE(p);
    c.embedding_dropout = c.attention_dropout = c.residual_dropout = p;
    pw::stage_context const context{.micro_batch = 1, .step = 3, .seed = 4};
    auto const x = drawn_tokens(shape, c.vocabulary, 1), t = drawn_tokens(shape, c.vocabulary, 2);
    whole_model<gpt2::host_backend> expected(c, 7);
    whole_model<cuda::backend<T>> found(c, 7);
    auto const e = expected.forward(context, x, t), f = found.forward(context, x, t);
    CHECK(std::abs(f.value / e.value - 1) < near);
    CHECK(f.weight == e.weight);
    expected.backward(context);
    found.backward(context);
    auto const of_host = expected.gradients_by_name();
    double off = 0, all = 0, worst = 0;
    for (auto const& [name, values] : found.gradients_by_name()) {
      CAPTURE(name);
      auto const& wanted = of_host.at(name);
      worst = std::max(worst, distance(values, wanted));
      for (std::size_t i = 0; i < values.size(); ++i) {
        off += std::pow(double{values[i]} - double{wanted[i]}, 2);
        all += std::pow(double{wanted[i]}, 2);
      }
      // Keys' biases have gradients of 0: what is there is rounding. In bf16 every layer adds some.
      if (std::is_same_v<T, float> && !name.ends_with("c_attn.bias")) CHECK(distance(values, wanted) < 3 * near);
    }
    MESSAGE("gradients: relative distance ", std::sqrt(off / all), ", that of the farthest tensor ", worst);
    CHECK(std::sqrt(off / all) < (std::is_same_v<T, float> ? near : 3 * near));
  }
}
#ifdef PIPEWRIGHT_ON_DEVICE
constexpr gpt2::batch_shape some_tokens{3, 150}, whole_tiles{2, 128};
#else
constexpr gpt2::batch_shape some_tokens{2, 19}, whole_tiles{2, 16};
#endif

}  // namespace

TEST_CASE_TEMPLATE("loss and gradients are the host backend's", T, float, cuda::bf16) {
  pw::cuda::context here;
  check_whole_model<T>(some_tokens, {0.f, 0.1f});
}

TEST_CASE("loss and gradients with cuDNN's attention are the host backend's") {
  pw::cuda::context here;
  auto& attend = here.kept<cuda::attentions>();
  attend.prefer_cudnn();
  for (auto const& shape : {some_tokens, whole_tiles}) {
    check_whole_model<cuda::bf16>(shape, {0.f});
    if (!attend.why_not().empty()) MESSAGE("SKIPPED: cuDNN's attention: ", attend.why_not());
  }
}

TEST_CASE("logits, loss and gradients are Hugging Face's") {
  constexpr auto tolerance = 1e-5;  // relative to each tensor's norm, as the host's
  pw::cuda::context here;
  int files = 0;
  double worst = 0;
  for (auto const& each : std::filesystem::directory_iterator(source_folder() / "tests/gpt2/fixtures")) {
    if (!each.is_regular_file()) continue;
    ++files;
    CAPTURE(each.path().filename().string());
    pw::safetensors::file const file(each.path());
    auto const number = [&](char const* key) { return std::stoi(file.metadata().at(key)); };
    auto const tokens = [&](char const* key) -> gpt2::token_batch {
      auto const& shape = file.at(key).shape;
      return {{static_cast<int>(shape.at(0)), static_cast<int>(shape.at(1))}, file.integers(key)};
    };
    gpt2::configuration const c{.vocabulary = number("vocabulary"),
                                .positions = number("positions"),
                                .width = number("width"),
                                .heads = number("heads"),
                                .layers = number("layers")};
    whole_model<cuda::backend<float>> model(c);
    auto& [wte, blocks, head] = model.weights.layers;
    gpt2::load(file, wte);
    for (auto& block : blocks.layers) gpt2::load(file, block);
    gpt2::load(file, head);

    auto const x = tokens("tokens"), t = tokens("targets");
    auto const loss = model.forward({}, x, t);
    auto const expected_loss = static_cast<double>(file.floats("loss").at(0));
    CHECK(std::abs(loss.value - expected_loss) / expected_loss < tolerance);
    CHECK(distance(model.logits(x), file.floats("logits")) < tolerance);

    model.backward({});
    auto gradients = model.gradients_by_name();
    if (number("tied") == 1) {  // Hugging Face's one tensor is our two
      auto const& copy = gradients.at("lm_head.weight");
      auto& sum = gradients.at("wte.weight");
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += copy[i];
      gradients.erase("lm_head.weight");
    }
    std::size_t expected = 0;
    for (auto const& [name, tensor] : file.tensors()) expected += name.starts_with("gradient.");
    CHECK(gradients.size() == expected);
    for (auto const& [name, values] : gradients) {
      CAPTURE(name);
      auto const off = distance(values, file.floats("gradient." + name));
      CHECK(off < tolerance);
      worst = std::max(worst, off);
    }
  }
  CHECK(files == 5);
  MESSAGE("largest relative distance of a gradient: ", worst);
}
