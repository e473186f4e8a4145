// SPDX-License-Identifier: Apache-2.0
// Reading safetensors, and what is refused.
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/load.hpp>
#include <pipewright/safetensors/file.hpp>

#include "whole_model.hpp"

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;

namespace {

struct temporary_file {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("pipewright-safetensors-" + std::to_string(std::random_device{}()));
  temporary_file(std::string const& bytes) { std::ofstream(path, std::ios::binary) << bytes; }
  ~temporary_file() { std::filesystem::remove(path); }
};

auto with_header(std::string const& header, std::string const& values) -> std::string {
  auto const length = std::uint64_t{header.size()};
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + values;
}

auto refusal(std::string const& bytes) -> std::string {
  auto const file = temporary_file(bytes);
  try {
    pw::safetensors::file{file.path};
  } catch (pw::error const& e) {
    return e.what();
  }
  return "";
}

auto bytes_of(auto const&... values) -> std::string {
  std::string bytes;
  (bytes.append(reinterpret_cast<char const*>(&values), sizeof values), ...);
  return bytes;
}

}  // namespace

TEST_CASE("every type that is read") {
  auto const header = std::string(
      R"( {"__metadata__":{"format":"pt","\u00e9\ud83d\ude00\n":"\"x\"\\"},)"
      R"("a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("b": {"shape": [ 2 ], "dtype": "BF16", "data_offsets": [8, 12]},)"
      R"("c":{"dtype":"F16","shape":[4],"data_offsets":[12,20]},"d":{"dtype":"F64","shape":[],"data_offsets":[20,28]},)"
      R"("e":{"dtype":"I64","shape":[1],"data_offsets":[28,36]},"f":{"dtype":"I32","shape":[1],"data_offsets":[36,40]},)"
      R"("none":{"dtype":"F32","shape":[3,0],"data_offsets":[40,40]}}   )");
  auto const file =
      temporary_file(with_header(header, bytes_of(1.5f, -2.f, std::uint16_t{0x3FC0}, std::uint16_t{0xC000},
                                                  std::uint16_t{0x3E00}, std::uint16_t{0x8001}, std::uint16_t{0x7C00},
                                                  std::uint16_t{0xFBFF}, 0.25, std::int64_t{-7}, std::int32_t{9})));
  auto const read = pw::safetensors::file(file.path);
  CHECK(read.metadata().at("format") == "pt");
  CHECK(read.metadata().at("\xc3\xa9\xf0\x9f\x98\x80\n") == "\"x\"\\");
  CHECK(read.floats("a") == std::vector{1.5f, -2.f});
  CHECK(read.at("a").shape == std::vector<std::uint64_t>{2, 1});
  CHECK(read.floats("b") == std::vector{1.5f, -2.f});
  CHECK(read.floats("c") == std::vector{1.5f, -0x1p-24f, std::numeric_limits<float>::infinity(), -65504.f});
  CHECK(read.floats("d") == std::vector{0.25f});
  CHECK(read.integers("e") == std::vector{-7});
  CHECK(read.integers("f") == std::vector{9});
  CHECK(read.floats("none").empty());
  CHECK_THROWS_AS(static_cast<void>(read.floats("f")), pw::error);
  CHECK_THROWS_AS(static_cast<void>(read.integers("a")), pw::error);
  CHECK_THROWS_AS(static_cast<void>(read.floats("absent")), pw::error);
}

TEST_CASE("what is not a safetensors file is refused with a sentence") {
  auto const four = std::string(4, '\0');
  auto const contains = [&](std::string const& header, std::string const& values, char const* sentence) {
    auto const found = refusal(with_header(header, values));
    CAPTURE(found);
    CHECK(found.find(sentence) != std::string::npos);
  };
  CHECK(refusal("").find("too short") != std::string::npos);
  CHECK(refusal("abc").find("too short") != std::string::npos);
  CHECK(refusal(std::string(8, '\xff')).find("100 MB") != std::string::npos);
  CHECK(refusal(bytes_of(std::uint64_t{100}) + "{}").find("ends inside its header") != std::string::npos);
  CHECK(refusal(with_header("{}", "")).empty());
  contains("", "", "expected {");
  contains("[]", "", "expected {");
  contains("{} x", "", "text after");
  contains(R"({"a")", "", "expected :");
  contains(R"({"a":1})", "", "expected {");
  contains(R"({"a":{}})", "", "lacks");
  contains(R"({"a":{"dtype":"F32","shape":[1]}})", four, "lacks");
  contains(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", four, "unknown field");
  contains(R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", four, "unknown type");
  contains(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", four, "non-negative");
  contains(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", four, "non-negative integer");
  contains(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", four, "two numbers");
  contains(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", four, "outside");
  contains(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", four, "outside");
  contains(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", four, "larger than the file");
  contains(R"({"a":{"dtype":"F64","shape":[1],"data_offsets":[0,4]}})", four + four, "bytes of its shape");
  contains(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,4]}})", four, "larger");
  contains(R"({"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}})", four, "too large");
  contains(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      four, "stands twice");
  contains(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      four, "overlap");
  contains(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", four + four, "hole");
  contains(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", four + four, "belong to no tensor");
  contains(R"({"\ud800":{}})", "", "surrogate");
  contains(R"({"\x":{}})", "", "escape");
  contains("{\"\n\":{}}", "", "control character");
  CHECK_THROWS_AS(pw::safetensors::file("/nonexistent/model.safetensors"), pw::error);
  CHECK_THROWS_AS(pw::safetensors::file{std::filesystem::temp_directory_path()}, pw::error);
}

TEST_CASE("loading checks names and shapes") {
  auto const path = std::filesystem::path(PIPEWRIGHT_SOURCE_DIR "/tests/gpt2/fixtures/tied.safetensors");
  auto const file = pw::safetensors::file(path);
  auto model = test::whole_model({.vocabulary = 53, .positions = 9, .width = 32, .heads = 4, .layers = 3});
  auto& [wte, blocks, head] = model.weights.layers;
  gpt2::load(file, wte);
  gpt2::load(file, head);  // tied: lm_head.weight is wte.weight
  CHECK(test::by_name(head).at("lm_head.weight") == file.floats("wte.weight"));
  gpt2::load(file, blocks.layers[1]);
  CHECK(test::by_name(blocks.layers[1]).at("h.1.attn.c_attn.bias") == file.floats("h.1.attn.c_attn.bias"));
  CHECK_THROWS_AS(gpt2::load(file, blocks.layers[2]), pw::error);  // the file has two
  auto larger = test::whole_model({.vocabulary = 54, .positions = 9, .width = 32, .heads = 4, .layers = 2});
  CHECK_THROWS_WITH_AS(gpt2::load(file, std::get<0>(larger.weights.layers)),
                       ("GPT-2: wte.weight of " + path.string() +
                        " has the shape 53 x 32 instead of 54 x 32 that the model needs; check the model's sizes")
                           .c_str(),
                       pw::error);
}
