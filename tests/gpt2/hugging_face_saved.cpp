// SPDX-License-Identifier: Apache-2.0
// Models as Hugging Face's library saves them are read, and saved in its form, bit for bit; and what is refused.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/save.hpp>

#include "reference.hpp"
#include "saved_models.hpp"

namespace pw = pipewright;
namespace st = pipewright::safetensors;
namespace gpt2 = pipewright::gpt2;
namespace fs = std::filesystem;
using test::fixtures, test::folder, test::loaded, test::logits_of, test::random_model, test::sizes, test::views_of;

namespace {

auto bytes_of(fs::path const& path) -> std::string {
  auto in = std::ifstream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

auto refusal(auto&& what) -> std::string {
  try {
    what();
  } catch (pw::error const& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("folders that save_pretrained made") {
  for (auto const* name : {"saved_tied_shards", "saved_untied", "saved_bare"}) {
    CAPTURE(name);
    auto [said, model] = loaded(fixtures / name);
    CHECK(said.sizes == gpt2::configuration{.vocabulary = 41,
                                            .positions = 10,
                                            .width = 12,
                                            .heads = 3,
                                            .layers = 2,
                                            .embedding_dropout = 0.f,
                                            .attention_dropout = 0.25f,
                                            .residual_dropout = 0.1f});
    CHECK(said.tied == (std::string(name) != "saved_untied"));
    CHECK(said.end_of_text == 40);
    auto const expected = st::file(fixtures / name / "expected.safetensors");
    CHECK(reference::distance(logits_of(model, test::tokens_in(expected)), expected.floats("logits")) < 1e-5);
  }
}

TEST_CASE("loaded and saved again, every value is the same bits") {
  for (auto const* name : {"saved_tied_shards", "saved_untied", "saved_bare"}) {
    CAPTURE(name);
    auto const here = folder();
    auto [said, model] = loaded(fixtures / name);
    auto const values = test::by_name(model.weights);
    gpt2::save(here.path, said, views_of(values));
    auto const before = st::checkpoint(fixtures / name), after = st::checkpoint(here.path);
    CHECK(before.names().size() == after.names().size());
    for (auto const& each : before.names()) {
      auto const there = each.starts_with("transformer.") || each == "lm_head.weight" ? each : "transformer." + each;
      CHECK(std::ranges::equal(before.bytes(each), after.bytes(there)));
      CHECK(before.at(each).shape == after.at(there).shape);
    }
    CHECK(gpt2::read_configuration(here.path) == said);
  }
  auto const here = folder();
  auto [said, model] = loaded(fixtures / "saved_untied");
  auto const values = test::by_name(model.weights);
  gpt2::save(here.path, said, views_of(values));
  CHECK(bytes_of(here.path / "model.safetensors") == bytes_of(fixtures / "saved_untied" / "model.safetensors"));
}

TEST_CASE("saved and loaded, every value is the same bits: tied or not, whole or in shards") {
  for (bool const tied : {false, true}) {
    for (auto const largest : {UINT64_MAX, std::uint64_t{9000}, std::uint64_t{1}}) {
      CAPTURE(tied);
      CAPTURE(largest);
      auto const here = folder();
      auto model = random_model(sizes, tied);
      auto const values = test::by_name(model.weights);
      auto const described = gpt2::hugging_face_model{.sizes = sizes, .tied = tied, .end_of_text = 3};
      gpt2::save(here.path, described, views_of(values), largest);
      auto [said, again] = loaded(here.path);
      CHECK(said == described);
      CHECK(test::by_name(again.weights) == values);
      auto const written = st::checkpoint(here.path);
      CHECK(written.contains("lm_head.weight") == !tied);
      CHECK((written.files().size() > 1) == (largest != UINT64_MAX));
    }
  }
}

TEST_CASE("a checkpoint that is not the model's is refused") {
  auto const here = folder();
  auto model = random_model(sizes, false);
  auto const values = test::by_name(model.weights);
  auto const described = gpt2::hugging_face_model{.sizes = sizes, .tied = false};
  auto const written = [&](auto change, gpt2::hugging_face_model const& as) {
    auto tensors = gpt2::file_tensors(described, views_of(values));
    change(tensors);
    st::write_folder(here.path, tensors);
    return refusal([&] { gpt2::check(st::checkpoint(here.path), as); });
  };
  auto const unchanged = [](auto&) {};
  CHECK(written(unchanged, described).empty());
  CHECK(written([](auto& t) { t.erase(t.begin() + 3); }, described).find("has no tensor h.0.ln_1.bias") !=
        std::string::npos);
  CHECK(written([](auto& t) { t.push_back(t[3]), t.back().name = "h.0.ln_1.bias"; }, described).find("twice") !=
        std::string::npos);
  CHECK(written([](auto& t) { t.push_back(t[3]), t.back().name = "extra"; }, described)
            .find("holds extra, which is no tensor of a GPT-2 of 3 layers") != std::string::npos);
  CHECK(written([](auto& t) { t.push_back(t[3]), t.back().name = "transformer.h.0.attn.bias"; }, described).empty());
  CHECK(written([](auto& t) { std::swap(t[4].shape[0], t[4].shape[1]); }, described)
            .find("h.0.attn.c_attn.weight of " + (here.path / "model.safetensors").string() +
                  " has the shape 72 x 24 instead of 24 x 72") != std::string::npos);
  auto fewer = described;
  fewer.sizes.layers = 2;
  CHECK(written(unchanged, fewer).find("check that config.json belongs to it") != std::string::npos);
  auto more = described;
  more.sizes.layers = 100'000'000;  // must not take memory for them
  CHECK(written(unchanged, more).find("has no tensor h.3.ln_1.weight") != std::string::npos);
  auto tied = described;
  tied.tied = true;
  CHECK(written(unchanged, tied).find("set tie_word_embeddings to false") != std::string::npos);

  CHECK(refusal([&] { gpt2::save(here.path, tied, views_of(values)); }).find("cannot be saved as tied") !=
        std::string::npos);
  auto lacking = values;
  lacking.erase("h.1.mlp.c_fc.bias");
  CHECK(refusal([&] { gpt2::save(here.path, described, views_of(lacking)); }).find("no values of h.1.mlp.c_fc.bias") !=
        std::string::npos);
  lacking["h.1.mlp.c_fc.bias"] = {1.f};
  CHECK(refusal([&] { gpt2::save(here.path, described, views_of(lacking)); }).find("and the model has 96") !=
        std::string::npos);
}

TEST_CASE("a configuration that this GPT-2 does not compute is refused") {
  auto const here = folder();
  auto const with = [&](std::string const& more) {
    std::ofstream(here.path / "config.json") << R"({"model_type": "gpt2")" << (more.empty() ? "" : ", ") << more << "}";
    auto const sentence = refusal([&] { static_cast<void>(gpt2::read_configuration(here.path)); });
    CHECK((sentence.empty() || sentence.find((here.path / "config.json").string()) != std::string::npos));
    return sentence;
  };
  CHECK(with("").empty());
  auto const said = gpt2::read_configuration(here.path);  // Hugging Face's defaults
  CHECK(said.sizes == gpt2::configuration{.vocabulary = 50257,
                                          .positions = 1024,
                                          .width = 768,
                                          .heads = 12,
                                          .layers = 12,
                                          .embedding_dropout = 0.1f,
                                          .attention_dropout = 0.1f,
                                          .residual_dropout = 0.1f});
  CHECK(said.tied);
  CHECK(said.end_of_text == 50256);
  CHECK(with(R"("n_inner": 3072, "task_specific_params": {"a": [1, {"b": null}]}, "eos_token_id": null)").empty());
  CHECK(with(R"("activation_function": "gelu")").find("activation_function gelu, which is not supported") !=
        std::string::npos);
  CHECK(with(R"("scale_attn_by_inverse_layer_idx": true)").find("only false is") != std::string::npos);
  CHECK(with(R"("reorder_and_upcast_attn": true)").find("only false is") != std::string::npos);
  CHECK(with(R"("add_cross_attention": true)").find("only false is") != std::string::npos);
  CHECK(with(R"("scale_attn_weights": false)").find("only true is") != std::string::npos);
  CHECK(with(R"("layer_norm_epsilon": 1e-6)").find("only 1e-05 is") != std::string::npos);
  CHECK(with(R"("n_inner": 100)").find("only 4 * n_embd") != std::string::npos);
  CHECK(with(R"("n_head": 5)").find("not a multiple of 5 heads") != std::string::npos);
  CHECK(with(R"("n_layer": 0)").find("at least 1") != std::string::npos);
  CHECK(with(R"("n_layer": 12.5)").find("expected an integer") != std::string::npos);
  CHECK(with(R"("n_embd": 99999999999)").find("below 2^29") != std::string::npos);
  CHECK(with(R"("vocab_size": "many")").find("expected an integer") != std::string::npos);
  CHECK(with(R"("vocab_size": 100, "eos_token_id": 100)").find("outside its vocabulary") != std::string::npos);
  CHECK(with(R"("eos_token_id": -1)").find("token of the vocabulary") != std::string::npos);
  CHECK(with(R"("attn_pdrop": 1.0)").find("outside [0, 1)") != std::string::npos);
  CHECK(with(R"("n_layer": 2, "n_layer": 3)").find("stands twice") != std::string::npos);
  CHECK(with(R"("quantization_config": {"bits": 8})").find("quantized") != std::string::npos);
  CHECK(with(R"("model_type": "gpt2")").find("twice") != std::string::npos);
  std::ofstream(here.path / "config.json") << R"({"model_type": "llama"})";
  CHECK(refusal([&] { static_cast<void>(gpt2::read_configuration(here.path)); }).find("only gpt2 is") !=
        std::string::npos);
  std::ofstream(here.path / "config.json") << "{}";
  CHECK(refusal([&] { static_cast<void>(gpt2::read_configuration(here.path)); }).find("no model_type") !=
        std::string::npos);
  fs::remove(here.path / "config.json");
  CHECK(refusal([&] { static_cast<void>(gpt2::read_configuration(here.path)); }).find("check the path") !=
        std::string::npos);
}
