// SPDX-License-Identifier: Apache-2.0
// Damaged files: a sentence or a right result, never a crash, and no more memory than the file's size explains.
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <pipewright/gpt2/hugging_face.hpp>
#include <pipewright/gpt2/squad.hpp>
#include <pipewright/gpt2/token_file.hpp>
#include <pipewright/safetensors/checkpoint.hpp>
#include <pipewright/safetensors/file.hpp>

#include "fuzz.hpp"

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
namespace fs = std::filesystem;
using json = nlohmann::json;

namespace {

auto const fixtures = fs::path(PIPEWRIGHT_SOURCE_DIR "/tests/gpt2/fixtures");

auto number_at(std::string const& bytes, std::size_t at) -> std::int32_t {
  std::int32_t value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

/// Whether the tensors of a file are those that its header tells another reader of JSON.
auto is_what_stands_in(std::string const& bytes, pw::safetensors::file const& found) -> bool {
  auto length = std::uint64_t{};
  std::memcpy(&length, bytes.data(), sizeof length);
  auto header = json::parse(bytes.substr(sizeof length, length));
  header.erase("__metadata__");
  if (header.size() != found.tensors().size()) return false;
  auto end = sizeof length + length;
  for (auto const& [name, t] : found.tensors()) {
    auto const& said = header.at(name);
    auto const begin = said.at("data_offsets").at(0).get<std::uint64_t>() + sizeof length + length;
    auto const stop = said.at("data_offsets").at(1).get<std::uint64_t>() + sizeof length + length;
    auto const seen = found.bytes(name);
    if (said.at("shape").get<std::vector<std::uint64_t>>() != t.shape) return false;
    if (said.at("dtype") != std::string(pw::safetensors::name_of(t.type))) return false;
    if (stop > bytes.size() || begin > stop || seen.size() != stop - begin) return false;
    if (std::memcmp(seen.data(), bytes.data() + begin, seen.size()) != 0) return false;
    end = std::max<std::size_t>(end, stop);
  }
  return end == bytes.size();
}

}  // namespace

TEST_CASE("safetensors") {
  auto const folder = fuzz::folder();
  auto const good = fuzz::bytes_of(fixtures / "one_head.safetensors");
  auto length = std::uint64_t{};
  std::memcpy(&length, good.data(), sizeof length);
  auto const make = [&](std::mt19937& engine) {
    if (engine() % 4 == 0) return fuzz::changed(good, 0, sizeof length + length, engine);
    // The header's length is set right again, so that the reader gets as far as the text.
    auto text = fuzz::changed(good.substr(sizeof length, length), 0, length, engine);
    auto const now = std::uint64_t{text.size()};
    return std::string(reinterpret_cast<char const*>(&now), sizeof now) + text + good.substr(sizeof length + length);
  };
  auto const all = fuzz::run(
      folder.path / "model.safetensors", 0, make, [](fs::path const& path) { return pw::safetensors::file(path); },
      [](std::string const& bytes, pw::safetensors::file const& found) {
        for (auto const& [name, t] : found.tensors()) {
          if (t.type == pw::safetensors::value_type::f32) static_cast<void>(found.floats(name));
        }
        return is_what_stands_in(bytes, found);
      });
  CHECK(all.refused > fuzz::mutations / 2);
  CHECK(all.read > fuzz::mutations / 50);  // a changed name is still a file
}

TEST_CASE("config.json") {
  auto const folder = fuzz::folder();
  auto const model = gpt2::hugging_face_model{
      .sizes = {.vocabulary = 500, .positions = 32, .width = 24, .heads = 4, .layers = 3, .attention_dropout = 0.25f},
      .tied = false,
      .end_of_text = 499};
  gpt2::write_configuration(folder.path, model);
  auto const path = folder.path / "config.json";
  auto const good = fuzz::bytes_of(path);
  auto const all = fuzz::run(
      path, 0, [&](std::mt19937& engine) { return fuzz::changed(good, 0, good.size(), engine); },
      [](fs::path const& file) { return gpt2::read_configuration(file); },
      [](std::string const& bytes, gpt2::hugging_face_model const& found) {
        auto const said = json::parse(bytes);
        auto const& c = found.sizes;
        return said.at("model_type") == "gpt2" && said.value("vocab_size", 50257) == c.vocabulary &&
               said.value("n_positions", 1024) == c.positions && said.value("n_embd", 768) == c.width &&
               said.value("n_head", 12) == c.heads && said.value("n_layer", 12) == c.layers &&
               said.value("attn_pdrop", 0.1f) == c.attention_dropout && c.width % c.heads == 0 &&
               said.value("tie_word_embeddings", true) == found.tied &&
               said.value("activation_function", "gelu_new") == "gelu_new";
      });
  CHECK(all.refused > fuzz::mutations / 2);
  CHECK(all.read > fuzz::mutations / 50);
}

TEST_CASE("index of shards") {
  auto const folder = fuzz::folder();
  std::vector<float> const values(8, 1.5f);
  std::vector<pw::safetensors::tensor_view> tensors;
  for (auto const* name : {"a", "b.weight", "c", "d", "e.bias"}) {
    tensors.emplace_back(name, std::vector<std::uint64_t>{2, 4}, values);
  }
  pw::safetensors::write_folder(folder.path, tensors, 2 * 32);
  auto const path = folder.path / pw::safetensors::index_file_name;
  auto const good = fuzz::bytes_of(path);
  auto beside = std::size_t{0};
  for (auto const& each : fs::directory_iterator(folder.path)) beside += each.file_size();
  auto const all = fuzz::run(
      path, beside - good.size(), [&](std::mt19937& engine) { return fuzz::changed(good, 0, good.size(), engine); },
      [](fs::path const& file) { return pw::safetensors::checkpoint(file); },
      [&](std::string const& bytes, pw::safetensors::checkpoint const& found) {
        auto const said = json::parse(bytes).at("weight_map").get<std::map<std::string, std::string>>();
        auto named = std::vector<std::string>();
        for (auto const& [name, shard] : said) {
          named.push_back(name);
          if (!pw::safetensors::file(folder.path / shard).contains(name)) return false;
        }
        return found.names() == named && named.size() == tensors.size() && found.floats("c") == values;
      });
  CHECK(all.refused > fuzz::mutations / 2);
  CHECK(all.read > fuzz::mutations / 50);
}

TEST_CASE("SQuAD") {
  auto const folder = fuzz::folder();
  auto const good = std::string(
      R"({"version": "v2.0", "data": [{"title": "T\u00e9", "paragraphs": [{"qas": [{"question": "q?", "id": "56", )"
      R"("answers": [{"text": "a", "answer_start": 5}], "is_impossible": false}], "context": "One \"text\"\n\uac00."}, )"
      R"({"context": "Two 한국어 text", "qas": []}, {"context": "One \"text\"\n\uac00.", "qas": []}]}, )"
      R"({"title": "U", "paragraphs": []}, {"title": "V", "paragraphs": [{"context": "Three", "qas": []}]}]})");
  auto const all = fuzz::run(
      folder.path / "squad.json", 0, [&](std::mt19937& engine) { return fuzz::changed(good, 0, good.size(), engine); },
      [](fs::path const& file) { return gpt2::read_squad(file); },
      [](std::string const& bytes, std::vector<std::string> const& found) {
        std::vector<std::string> said;
        auto const whole = json::parse(bytes);
        for (auto const& article : whole.at("data")) {
          for (auto const& paragraph : article.at("paragraphs")) {
            auto const context = paragraph.at("context").get<std::string>();
            if (std::find(said.begin(), said.end(), context) == said.end()) said.push_back(context);
          }
        }
        return said == found;
      });
  CHECK(all.refused > fuzz::mutations / 4);
  CHECK(all.read > fuzz::mutations / 50);
}

TEST_CASE("token files") {
  auto const folder = fuzz::folder();
  auto good = std::string(1024, '\0');
  auto const head = std::vector<std::int32_t>{20240520, 1, 100};
  std::memcpy(good.data(), head.data(), 12);
  for (int i = 0; i < 200; ++i) good += static_cast<char>(i);
  auto const make = [&](std::mt19937& engine) {
    auto bad = good;
    if (engine() % 2 == 0) {  // one of the header's numbers
      constexpr std::int32_t extremes[] = {0, 1, 2, -1, 99, 100, 101, INT32_MAX, INT32_MIN, 20240520};
      auto const value = extremes[engine() % 10];
      std::memcpy(bad.data() + 4 * (engine() % 4), &value, sizeof value);
    }
    switch (engine() % 3) {
      case 0: return fuzz::changed(bad, 0, 12, engine);
      case 1: bad.resize(engine() % 1400); return bad;
      default: return fuzz::changed(bad, 1024, bad.size(), engine);
    }
  };
  auto const all = fuzz::run(
      folder.path / "tokens.bin", 0, make, [](fs::path const& file) { return gpt2::token_file(file); },
      [](std::string const& bytes, gpt2::token_file const& found) {
        auto const tokens = found.tokens();
        return number_at(bytes, 0) == 20240520 && number_at(bytes, 4) == 1 &&
               static_cast<std::size_t>(number_at(bytes, 8)) == tokens.size() &&
               bytes.size() == 1024 + 2 * tokens.size() &&
               std::memcmp(bytes.data() + 1024, tokens.data(), 2 * tokens.size()) == 0;
      });
  CHECK(all.refused > fuzz::mutations / 4);
  CHECK(all.read > fuzz::mutations / 50);
}

// The mutated files are small, so that the fixed megabyte covers them; in these it does not.
TEST_CASE("files full of the smallest things that cost memory") {
  auto const folder = fuzz::folder();
  auto const most_for = [&](std::string const& name, std::string const& bytes, auto read) {
    auto const path = folder.path / name;
    std::ofstream(path, std::ios::binary) << bytes;
    auto const before = fuzz::live;
    fuzz::peak = before;
    try {
      read(path);
    } catch (pw::error const& e) {
      MESSAGE(name, " refused: ", std::string(e.what()));
    }
    auto const used = fuzz::peak - before;
    MESSAGE(name, ": ", used / bytes.size(), " bytes allocated for a byte of the file");
    CHECK(used <= 64 * bytes.size());
  };
  auto const repeated = [](int count, auto piece) {
    std::string all;
    for (int i = 0; i < count; ++i) all += (i == 0 ? "" : ",") + piece(i);
    return all;
  };
  auto const with_length = [](std::string const& header) {
    auto const length = std::uint64_t{header.size()};
    return std::string(reinterpret_cast<char const*>(&length), sizeof length) + header;
  };
  auto const number = [](int i) { return std::to_string(i); };
  auto const tensor = [](int i) {
    return "\"" + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  };
  auto const open = [](fs::path const& path) { pw::safetensors::file{path}; };
  most_for("tensors", with_length("{" + repeated(30'000, tensor) + "}"), open);
  most_for("extents",
           with_length(R"({"a":{"dtype":"U8","data_offsets":[0,0],"shape":[)" +
                       repeated(1'000'000, [](int) { return std::string("0"); }) + "]}}"),
           open);
  most_for("metadata",
           with_length(R"({"__metadata__":{)" + repeated(100'000, [&](int i) { return "\"" + number(i) + "\":\"\""; }) +
                       "}}"),
           open);
  most_for("name", with_length("{\"" + std::string(1 << 20, 'x') + "\":{}}"), open);
  most_for("index.json",
           R"({"weight_map":{)" +
               repeated(100'000, [&](int i) { return "\"" + number(i) + "\":\"" + number(i) + "\""; }) + "}}",
           [](fs::path const& path) { pw::safetensors::checkpoint{path}; });
  most_for("squad.json",
           R"({"data":[{"paragraphs":[)" +
               repeated(100'000, [&](int i) { return R"({"context":")" + number(i) + "\"}"; }) + "]}]}",
           [](fs::path const& path) { CHECK(gpt2::read_squad(path).size() == 100'000); });
  most_for("config.json", "{" + repeated(200'000, [&](int i) { return "\"" + number(i) + "\":0"; }) + "}",
           [](fs::path const& path) { static_cast<void>(gpt2::read_configuration(path)); });
}
