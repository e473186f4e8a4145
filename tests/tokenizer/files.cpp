// SPDX-License-Identifier: Apache-2.0
// What is wrong with a tokenizer's files is said in one sentence, with the file and the place.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <pipewright/tokenizer/byte_pair.hpp>

namespace pw = pipewright;
using nlohmann::json;
using pw::tokenizer::byte_pair;

namespace {

auto const fixtures = std::filesystem::path(PIPEWRIGHT_SOURCE_DIR "/tests/tokenizer/fixtures");

struct folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("pipewright-tokenizer-" + std::to_string(std::random_device{}()));
  folder() { std::filesystem::create_directories(path); }
  ~folder() { std::filesystem::remove_all(path); }
  void write(std::string const& name, std::string_view text) const {
    std::ofstream(path / name, std::ios::binary) << text;
  }
};

auto text_of(std::filesystem::path const& path) -> std::string {
  auto in = std::ifstream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

/// What is said of a place, without the folder's name; empty where it is read.
auto refusal(folder const& in, std::string const& name = "") -> std::string {
  try {
    byte_pair(name.empty() ? in.path : in.path / name);
    return "";
  } catch (pw::error const& fault) {
    auto sentence = std::string(fault.what());
    auto const prefix = in.path.string() + "/";
    for (auto at = sentence.find(prefix); at != sentence.npos; at = sentence.find(prefix))
      sentence.erase(at, prefix.size());
    return sentence;
  }
}

/// All bytes, and "ab" and "abc".
auto small_vocabulary() -> json {
  auto vocabulary = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary[pw::tokenizer::detail::letter_of(static_cast<unsigned char>(byte))] = byte;
  }
  vocabulary["ab"] = 256;
  vocabulary["abc"] = 257;
  return vocabulary;
}

auto refusal_of_merges(std::string_view merges) -> std::string {
  auto const in = folder();
  in.write("vocab.json", small_vocabulary().dump());
  in.write("merges.txt", merges);
  return refusal(in);
}

auto refusal_of_vocabulary(std::string_view vocabulary) -> std::string {
  auto const in = folder();
  in.write("vocab.json", vocabulary);
  in.write("merges.txt", "#version: 0.2\na b\nab c\n");
  return refusal(in);
}

auto refusal_of_vocabulary(std::string const& key, json const& id) -> std::string {
  auto vocabulary = small_vocabulary();
  vocabulary[key] = id;
  return refusal_of_vocabulary(vocabulary.dump());
}

/// Of the fixture's tokenizer.json, changed.
template<class Change> auto refusal_of_one_file(Change change) -> std::string {
  auto all = json::parse(text_of(fixtures / "small/tokenizer.json"));
  change(all);
  auto const in = folder();
  in.write("tokenizer.json", all.dump());
  return refusal(in);
}

}  // namespace

TEST_CASE("files that are not there") {
  auto const in = folder();
  CHECK(refusal(in) == "tokenizer folder " + in.path.string() +
                           " has neither tokenizer.json nor vocab.json and merges.txt; check the path");
  CHECK(refusal(in, "absent") == "tokenizer file absent is not there, or is no file; check the path");
  in.write("vocab.json", small_vocabulary().dump());
  CHECK(refusal(in) == "tokenizer file merges.txt is not there, or is no file; check the path");
  std::filesystem::create_directories(in.path / "merges.txt");
  CHECK(refusal(in) == "tokenizer file merges.txt is not there, or is no file; check the path");
}

TEST_CASE("a good pair of files") {
  for (auto const* merges :
       {"#version: 0.2\na b\nab c\n", "a b\nab c", "#version: 0.2 - trained here\r\na b\r\nab c\r\n"}) {
    auto const in = folder();
    in.write("vocab.json", small_vocabulary().dump());
    in.write("merges.txt", merges);
    auto const tokenizer = byte_pair(in.path);
    CHECK(tokenizer.encode("abcab<|endoftext|>b") == std::vector<std::int32_t>{257, 256, 258, 'b'});
    CHECK(tokenizer.vocabulary() == 259);  // the vocabulary has no <|endoftext|>
  }
  CHECK(refusal_of_merges("") == "");
}

TEST_CASE("a vocabulary that is no JSON, or too little of it") {
  auto const again = "; take it anew from where it came from";
  CHECK(refusal_of_vocabulary("") ==
        std::string("tokenizer file vocab.json ends too early, at line 1, column 1") + again);
  CHECK(refusal_of_vocabulary("{\"a\": 0,\n\"b\"") ==
        std::string("tokenizer file vocab.json ends too early, at line 2, column 4") + again);
  CHECK(refusal_of_vocabulary("{\"a\": 0,\n \"b\" 1}") ==
        std::string("tokenizer file vocab.json is not JSON at line 2, column 6") + again);
  CHECK(refusal_of_vocabulary("{0: \"a\"}").starts_with("tokenizer file vocab.json is not JSON at line 1, column 2"));
  CHECK(
      refusal_of_vocabulary("{\"\xff\": 0}").starts_with("tokenizer file vocab.json is not JSON at line 1, column 3"));
  CHECK(refusal_of_vocabulary("{\"a\": 1e999}") == "tokenizer file vocab.json has a number that is too large");
  CHECK(refusal_of_vocabulary(std::string(100'000, '[')) ==
        "tokenizer file vocab.json nests lists or objects more than 32 deep; no tokenizer does");
  auto const nothing = "tokenizer file vocab.json has no vocabulary: an object of tokens and their ids";
  CHECK(refusal_of_vocabulary("[]") == nothing);
  CHECK(refusal_of_vocabulary("7") == nothing);
  CHECK(refusal_of_vocabulary("null") == nothing);
  CHECK(refusal_of_vocabulary("{}") ==
        "tokenizer file merges.txt needs the token \"a\" for its merge at line 2, but the vocabulary in vocab.json has "
        "none");
}

TEST_CASE("ids") {
  auto const said = [](std::string const& id) {
    return "tokenizer file vocab.json gives \"ab\" the id " + id + "; ids are whole numbers from 0 to 2147483647";
  };
  CHECK(refusal_of_vocabulary("ab", -1) == said("-1"));
  CHECK(refusal_of_vocabulary("ab", 1.5) == said("1.5"));
  CHECK(refusal_of_vocabulary("ab", "256") == said("\"256\""));
  CHECK(refusal_of_vocabulary("ab", nullptr) == said("null"));
  CHECK(refusal_of_vocabulary("ab", json::array({1})) == said("a list"));
  CHECK(refusal_of_vocabulary("ab", json::object()) == said("an object"));
  CHECK(refusal_of_vocabulary("ab", 2147483648) == said("2147483648"));
  CHECK(refusal_of_vocabulary("ab", 18446744073709551615u) == said("18446744073709551615"));
  CHECK(refusal_of_vocabulary("ab", 257) == "tokenizer file vocab.json gives the id 257 to both \"ab\" and \"abc\"");
  CHECK(refusal_of_vocabulary("ab", 2147483647) ==
        "tokenizer file vocab.json gives \"ab\" the id 2147483647, but has only 259 tokens; ids must be 0 to 258, each "
        "of "
        "them once");
  CHECK(
      refusal_of_vocabulary("abc", 260) ==  // 257 is a hole
      "tokenizer file vocab.json gives \"abc\" the id 260, but has only 259 tokens; ids must be 0 to 258, each of them "
      "once");
  CHECK(refusal_of_vocabulary("", 258) == "tokenizer file vocab.json has an empty token");
  auto vocabulary = small_vocabulary();
  vocabulary.erase("\xC4\xA0");
  vocabulary["abcd"] = 32;
  CHECK(refusal_of_vocabulary(vocabulary.dump()) ==
        "tokenizer file vocab.json has no token \"\\u0120\" for the byte 32; take a byte-level vocabulary, as GPT-2's "
        "is");
}

TEST_CASE("merges") {
  auto const no_merge = [](std::string const& line) {
    return "tokenizer file merges.txt has no merge at line 2: it is " + line +
           ", not two tokens with one space between them";
  };
  CHECK(refusal_of_merges("a b\nabc\n") == no_merge("\"abc\""));
  CHECK(refusal_of_merges("a b\n\nab c\n") == no_merge("\"\""));
  CHECK(refusal_of_merges("a b\n a\n") == no_merge("\" a\""));
  CHECK(refusal_of_merges("a b\na \n") == no_merge("\"a \""));
  CHECK(refusal_of_merges("a b\na  b\n") == no_merge("\"a  b\""));
  CHECK(refusal_of_merges("a b\nab c d") == no_merge("\"ab c d\""));
  CHECK(refusal_of_merges("a b\n\xff\n") == no_merge("\"\\ufffd\""));
  CHECK(refusal_of_merges("a b\n" + std::string(100, 'x')) == no_merge("\"" + std::string(24, 'x') + "\"..."));
  CHECK(refusal_of_merges("#version: 0.2\na b\nab x\n") ==
        "tokenizer file merges.txt needs the token \"abx\" for its merge at line 3, but the vocabulary in vocab.json "
        "has none");
  CHECK(refusal_of_merges("xy b\n") ==
        "tokenizer file merges.txt needs the token \"xy\" for its merge at line 1, but the vocabulary in vocab.json "
        "has none");
  CHECK(refusal_of_merges("a b\nab c\na b\n") ==
        "tokenizer file merges.txt merges \"a\" and \"b\" a second time at line 3");
}

TEST_CASE("tokenizer.json") {
  CHECK(refusal_of_one_file([](json&) {}) == "");
  CHECK(refusal_of_one_file([](json& all) {  // as it was written before 2024
          for (auto& merge : all["model"]["merges"]) {
            merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
          }
        }) == "");
  CHECK(refusal_of_one_file([](json& all) { all["truncation"] = {{"max_length", 1024}}; }) == "");
  CHECK(refusal_of_one_file([](json& all) { all.erase("added_tokens"); }) == "");
  CHECK(refusal_of_one_file([](json& all) { all = json::array(); }) ==
        "tokenizer file tokenizer.json is no tokenizer: it should be a JSON object with a model");

  auto const kind = std::string("; only GPT-2's kind of byte-level tokenizer is read");
  auto const has = std::string("tokenizer file tokenizer.json has ");
  CHECK(refusal_of_one_file([](json& all) { all["normalizer"] = {{"type", "NFC"}}; }) ==
        has + "an object as its normalizer; it should be null" + kind);
  CHECK(refusal_of_one_file([](json& all) { all["pre_tokenizer"] = nullptr; }) ==
        has + "null as its pre_tokenizer.type; it should be \"ByteLevel\"" + kind);
  CHECK(refusal_of_one_file([](json& all) { all["pre_tokenizer"] = 3; }) ==
        has + "3 as its pre_tokenizer; it should be an object");
  CHECK(refusal_of_one_file([](json& all) { all["pre_tokenizer"]["add_prefix_space"] = true; }) ==
        has + "true as its pre_tokenizer.add_prefix_space; it should be false" + kind);
  CHECK(refusal_of_one_file([](json& all) { all["pre_tokenizer"]["use_regex"] = false; }) ==
        has + "false as its pre_tokenizer.use_regex; it should be true" + kind);
  CHECK(refusal_of_one_file([](json& all) { all["post_processor"]["type"] = "TemplateProcessing"; }) ==
        has + "\"TemplateProcessing\" as its post_processor.type; it should be \"ByteLevel\"" + kind);
  CHECK(refusal_of_one_file([](json& all) { all["decoder"]["type"] = "WordPiece"; }) ==
        has + "\"WordPiece\" as its decoder.type; it should be \"ByteLevel\"" + kind);
  CHECK(refusal_of_one_file([](json& all) { all["model"]["type"] = "Unigram"; }) ==
        has + "\"Unigram\" as its model.type; it should be \"BPE\"" + kind);
  CHECK(refusal_of_one_file([](json& all) { all["model"]["dropout"] = 0.1; }) ==
        has + "0.1 as its model.dropout; it should be null" + kind);
  CHECK(refusal_of_one_file([](json& all) { all["model"]["ignore_merges"] = true; }) ==
        has + "true as its model.ignore_merges; it should be false" + kind);
  CHECK(refusal_of_one_file([](json& all) { all["model"]["end_of_word_suffix"] = "</w>"; }) ==
        has + "\"</w>\" as its model.end_of_word_suffix; it should be \"\"" + kind);
  CHECK(refusal_of_one_file([](json& all) { all.erase("model"); }) ==
        "tokenizer file tokenizer.json has no vocabulary: an object of tokens and their ids");

  CHECK(refusal_of_one_file([](json& all) { all["model"]["merges"] = "a b"; }) ==
        has + "\"a b\" as its model.merges; it should be a list");
  for (auto const& bad : {json(3), json("ab"), json("a b c"), json({"a"}), json({"a", "b", "c"}), json({"a", ""}),
                          json({"a", 3}), json(nullptr)}) {
    CHECK(refusal_of_one_file([&](json& all) {
            all["model"]["merges"][1] = bad;
          }).find(" as its model.merges[1], not a pair of tokens") != std::string::npos);
  }
  CHECK(refusal_of_one_file([](json& all) { all["model"]["merges"][2] = {"q", "qq"}; }) ==
        "tokenizer file tokenizer.json needs the token \"qq\" for its merge at model.merges[2], but the vocabulary in "
        "tokenizer.json has none");

  CHECK(refusal_of_one_file([](json& all) { all["added_tokens"] = 1; }) ==
        has + "1 as its added_tokens; it should be a list");
  CHECK(refusal_of_one_file([](json& all) { all["added_tokens"][0] = 1; }) ==
        has + "1 as its added_tokens[0]; it should be an object");
  CHECK(refusal_of_one_file([](json& all) { all["added_tokens"][0]["lstrip"] = true; }) ==
        has + "true as its added_tokens[0].lstrip; it should be false" + kind);
  CHECK(refusal_of_one_file([](json& all) { all["added_tokens"][1]["content"] = ""; }) ==
        has + "\"\" as its added_tokens[1].content; it should be a text");
  CHECK(refusal_of_one_file([](json& all) { all["added_tokens"][1]["normalized"] = "yes"; }) ==
        has + "\"yes\" as its added_tokens[1].normalized; it should be false" + kind);
  CHECK(refusal_of_one_file([](json& all) {
          all["added_tokens"][1]["id"] = 3;
        }).starts_with("tokenizer file tokenizer.json gives the id 3 to both "));
  CHECK(refusal_of_one_file([](json& all) {
          all["added_tokens"][1]["id"] = 9999;
        }).starts_with("tokenizer file tokenizer.json gives \"<x>\" the id 9999, but has only "));
  CHECK(refusal_of_one_file([](json& all) { all["added_tokens"][1]["content"] = "<|endoftext|>"; }) ==
        "tokenizer file tokenizer.json adds the token \"<|endoftext|>\" with the id 341, but has it already as 340");
  CHECK(refusal_of_one_file([](json& all) { all["added_tokens"][1] = all["added_tokens"][0]; }) ==
        "tokenizer file tokenizer.json adds the token \"<|endoftext|>\" twice");
  CHECK(refusal_of_one_file([](json& all) {
          all["model"]["vocab"]["<x>"] = 7;
        }).starts_with("tokenizer file tokenizer.json adds the token \"<x>\" with the id "));
}

TEST_CASE("a tokenizer without an end of text says so") {
  auto all = json::parse(text_of(fixtures / "small/tokenizer.json"));
  all.erase("added_tokens");
  auto const in = folder();
  in.write("any name", all.dump());
  auto const tokenizer = byte_pair(in.path / "any name");
  CHECK_THROWS_WITH_AS(static_cast<void>(tokenizer.end_of_text()),
                       "the tokenizer has no added token <|endoftext|>; choose one that has, or another end of texts",
                       pw::error);
}

TEST_CASE("a file cut anywhere is refused") {
  auto const good = text_of(fixtures / "small/tokenizer.json");
  auto const in = folder();
  for (std::size_t size = 0; size + 2 < good.size(); size += 37) {
    in.write("tokenizer.json", std::string_view(good).substr(0, size));
    CHECK(refusal(in).starts_with("tokenizer file tokenizer.json ends too early, at line "));
  }
}
