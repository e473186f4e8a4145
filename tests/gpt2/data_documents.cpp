// SPDX-License-Identifier: Apache-2.0
// SQuAD's contexts, token files, and the batches that are made of sequences.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/document_batches.hpp>

#include "whole_model.hpp"

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
using ids = std::vector<std::int32_t>;

namespace {

struct temporary_file {
  std::filesystem::path path;
  temporary_file(std::string const& bytes, std::string const& ending)
      : path(std::filesystem::temp_directory_path() /
             ("pipewright-data-" + std::to_string(std::random_device{}()) + ending)) {
    std::ofstream(path, std::ios::binary) << bytes;
  }
  ~temporary_file() { std::filesystem::remove(path); }
};

auto refusal(auto&& what) -> std::string {
  try {
    what();
  } catch (pw::error const& e) {
    return e.what();
  }
  return "";
}

/// Documents of which the i-th has lengths[i] tokens: 100 i, 100 i + 1, ...
auto documents(std::vector<int> const& lengths) -> gpt2::sequences {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < lengths.size(); ++i) texts.push_back(std::to_string(i));
  return gpt2::sequences::of_documents(texts, [&](std::string_view text) {
    auto const i = std::stoi(std::string(text));
    ids tokens(static_cast<std::size_t>(lengths[static_cast<std::size_t>(i)]));
    std::iota(tokens.begin(), tokens.end(), 100 * i);
    return tokens;
  });
}

/// The documents of a batch, in order, by their first token.
auto drawn(gpt2::document_batch const& batch, int micro_batches) -> ids {
  ids all;
  gpt2::token_batch x;
  for (int m = 0; m < micro_batches; ++m) {
    batch.input(m, x);
    for (int i = 0; i < x.batch.sequences; ++i) {
      all.push_back(x.ids[static_cast<std::size_t>(i * x.batch.length)] / 100);
    }
  }
  return all;
}

auto token_bytes(std::vector<std::uint16_t> const& tokens, std::int32_t count) -> std::string {
  auto bytes = std::string(1024, '\0');
  std::int32_t const head[] = {20240520, 1, count};
  std::memcpy(bytes.data(), head, sizeof head);
  return bytes + std::string(reinterpret_cast<char const*>(tokens.data()), 2 * tokens.size());
}

}  // namespace

TEST_CASE("SQuAD's contexts come in the file's order, equal ones once") {
  auto const file = temporary_file(
      R"({"version":"1.1","data":[{"title":"A","paragraphs":[{"context":"one","qas":[{"context":"not this"}]},)"
      R"({"qas":[],"context":"tw\u00f6"}]},{"paragraphs":[{"context":"one"},{"context":"\"three\"\n"}],"title":"B"}]})",
      ".json");
  CHECK(gpt2::read_squad(file.path) == std::vector<std::string>{"one", "tw\xc3\xb6", "\"three\"\n"});
}

TEST_CASE("what is no SQuAD file is refused with a sentence that names it") {
  auto const refused = [](std::string const& bytes) {
    auto const file = temporary_file(bytes, ".json");
    auto const sentence = refusal([&] { static_cast<void>(gpt2::read_squad(file.path)); });
    CHECK(sentence.starts_with("SQuAD file " + file.path.string()));
    return sentence;
  };
  CHECK(refused("").find("expected {") != std::string::npos);
  CHECK(refused("{}").find("there is no data") != std::string::npos);
  CHECK(refused(R"({"data":{}})").find("expected [") != std::string::npos);
  CHECK(refused(R"({"data":[]})").find("has no context") != std::string::npos);
  CHECK(refused(R"({"data":[{"title":"x"}]})").find("there is no paragraphs") != std::string::npos);
  CHECK(refused(R"({"data":[{"paragraphs":[{"qas":[]}]}]})").find("there is no context") != std::string::npos);
  CHECK(refused(R"({"data":[{"paragraphs":[{"context":3}]}]})").find("expected \"") != std::string::npos);
  CHECK(refused(R"({"data":[{"paragraphs":[{"context":"a","context":"b"}]}]})").find("twice") != std::string::npos);
  CHECK(refused(R"({"data":[{"paragraphs":[{"context":"a"}]}]} x)").find("text after") != std::string::npos);
  CHECK(refused("{\"data\":[{\"paragraphs\":[{\"context\":\"\xff\"}]}]}").find("UTF-8") != std::string::npos);
  CHECK(refused(R"({"version":)" + std::string(100'000, '[')).find("too deeply") != std::string::npos);
  CHECK(refusal([] { static_cast<void>(gpt2::read_squad("/nonexistent.json")); }).find("check the path") !=
        std::string::npos);
}

TEST_CASE("llm.c's token files are read, and what is none is refused") {
  std::vector<std::uint16_t> const tokens = {7, 0, 65535, 50256, 9};
  auto const good = token_bytes(tokens, 5);
  {
    auto const file = temporary_file(good, ".bin");
    auto const read = gpt2::token_file(file.path);
    CHECK(std::ranges::equal(read.tokens(), tokens));
    auto const cut = gpt2::read_sequences(file.path, 2, &gpt2::byte_tokenizer::encode);
    REQUIRE(cut.size() == 2);
    ids second(3);
    cut.copy(1, 0, 3, second.data());
    CHECK(second == ids{65535, 50256, 9});
  }
  auto const refused = [](std::string const& bytes) {
    auto const file = temporary_file(bytes, ".bin");
    auto const sentence = refusal([&] { gpt2::token_file{file.path}; });
    CHECK(sentence.starts_with("token file " + file.path.string()));
    return sentence;
  };
  CHECK(refused("").find("too short") != std::string::npos);
  CHECK(refused(std::string(1024, '\0')).find("20240520") != std::string::npos);
  auto other = good;
  other[4] = 2;
  CHECK(refused(other).find("version 2") != std::string::npos);
  CHECK(refused(token_bytes(tokens, 4)).find("10 bytes of tokens follow") != std::string::npos);
  CHECK(refused(token_bytes(tokens, 6)).find("10 bytes of tokens follow") != std::string::npos);
  CHECK(refused(token_bytes(tokens, -5)).find("-5 tokens") != std::string::npos);
  CHECK(refused(token_bytes({}, 0)).find("0 tokens") != std::string::npos);
}

TEST_CASE("sequences are cut, padded and shifted; padding counts, or does not") {
  auto const data = documents({3, 0, 6, 1});  // the one without tokens is left out
  REQUIRE(data.size() == 3);
  auto how = gpt2::batching{.micro_batches = 3, .sequences = 1, .context = 5, .padding = 9};
  gpt2::token_batch x, t;
  SUBCASE("to the longest of the batch, all") {
    auto const batch = gpt2::document_batches(data, how).next();
    CHECK(batch.length() == 5);
    CHECK(batch.lengths(0) == std::vector{3});
    CHECK(batch.lengths(1) == std::vector{5});
    batch.input(0, x), batch.target(0, t);
    CHECK(x.batch == gpt2::batch_shape{1, 5});
    CHECK(x.ids == ids{0, 1, 2, 9, 9});
    CHECK(t.ids == ids{1, 2, 9, 9, -1});
    batch.input(1, x), batch.target(1, t);
    CHECK(x.ids == ids{200, 201, 202, 203, 204});
    CHECK(t.ids == ids{201, 202, 203, 204, -1});
    batch.input(2, x), batch.target(2, t);
    CHECK(x.ids == ids{300, 9, 9, 9, 9});
    CHECK(t.ids == ids{9, 9, 9, 9, -1});
    CHECK(batch.counted() == 12);
  }
  SUBCASE("to a fixed length, real") {
    how.padded_to = 7;
    how.loss = gpt2::loss_on::real;
    auto const batch = gpt2::document_batches(data, how).next();
    CHECK(batch.length() == 7);
    batch.input(0, x), batch.target(0, t);
    CHECK(x.ids == ids{0, 1, 2, 9, 9, 9, 9});
    CHECK(t.ids == ids{1, 2, -1, -1, -1, -1, -1});
    batch.input(1, x), batch.target(1, t);
    CHECK(x.ids == ids{200, 201, 202, 203, 204, 9, 9});
    CHECK(t.ids == ids{201, 202, 203, 204, -1, -1, -1});
    batch.target(2, t);
    CHECK(t.ids == ids{-1, -1, -1, -1, -1, -1, -1});
    CHECK(batch.counted(0) == 2);
    CHECK(batch.counted() == 6);
  }
}

TEST_CASE("what is counted is what the targets say") {
  auto const some = documents({3, 8, 1, 5, 2, 7, 4});
  auto const stream = gpt2::sequences::of_stream(ids(50, 3), 6);
  for (auto const* data : {&some, &stream}) {
    for (auto const loss : {gpt2::loss_on::all, gpt2::loss_on::real}) {
      for (int context = 1; context < 10; ++context) {
        for (int const padded : {0, context, context + 2}) {
          auto batches = gpt2::document_batches(
              *data, {.micro_batches = 2, .sequences = 3, .context = context, .padded_to = padded, .loss = loss});
          auto const batch = batches.next();
          auto all = 0;
          for (int m = 0; m < 2; ++m) {
            gpt2::token_batch t;
            batch.target(m, t);
            auto const counted = std::ranges::count_if(t.ids, [](auto id) { return id >= 0; });
            CHECK(batch.counted(m) == counted);
            all += static_cast<int>(counted);
          }
          CHECK(batch.counted() == all);
        }
      }
    }
  }
}

TEST_CASE("a stream's sequences go on: every token but the first is a target once") {
  ids tokens(20);
  std::iota(tokens.begin(), tokens.end(), 0);
  auto const data = gpt2::sequences::of_stream(tokens, 6);
  REQUIRE(data.size() == 3);
  auto batches = gpt2::document_batches(data, {.micro_batches = 3, .context = 6});
  auto const batch = batches.next();
  gpt2::token_batch x, t;
  for (int m = 0; m < 3; ++m) {
    batch.input(m, x), batch.target(m, t);
    for (int i = 0; i < 6; ++i) {
      CHECK(x.ids[static_cast<std::size_t>(i)] == 6 * m + i);
      CHECK(t.ids[static_cast<std::size_t>(i)] == 6 * m + i + 1);
    }
  }
  CHECK(refusal([&] { gpt2::sequences::of_stream(ids(6, 0), 6); }).find("too few") != std::string::npos);
  CHECK(refusal([&] { gpt2::sequences::of_stream({}, 0); }).find("too few") != std::string::npos);
}

TEST_CASE("every epoch draws each sequence once, shuffled by the seed alone") {
  constexpr int count = 30;
  auto const data = documents(std::vector<int>(count, 2));
  auto how = gpt2::batching{
      .micro_batches = 2, .sequences = 3, .context = 4, .order = gpt2::sequence_order::shuffled, .seed = 11};
  auto const epoch_of = [&](gpt2::document_batches& batches) {
    ids all;
    for (int i = 0; i < count / 6; ++i) {
      auto const more = drawn(batches.next(), 2);
      all.insert(all.end(), more.begin(), more.end());
    }
    return all;
  };
  auto batches = gpt2::document_batches(data, how);
  auto const first = epoch_of(batches), second = epoch_of(batches);
  CHECK(batches.cursor() == 2 * count);
  CHECK(batches.epoch() == 2);
  for (auto const& each : {first, second}) CHECK(std::set(each.begin(), each.end()).size() == count);
  CHECK(first != second);
  CHECK_FALSE(std::ranges::is_sorted(first));
  auto again = gpt2::document_batches(data, how);
  CHECK(epoch_of(again) == first);
  how.seed = 12;
  auto other = gpt2::document_batches(data, how);
  CHECK(epoch_of(other) != first);
}

TEST_CASE("shuffling favours no place") {
  auto const data = documents({1, 1, 1, 1});
  int seen[4][4] = {};
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    auto batches = gpt2::document_batches(
        data, {.sequences = 4, .context = 1, .order = gpt2::sequence_order::shuffled, .seed = seed});
    auto const order = drawn(batches.next(), 1);
    for (int place = 0; place < 4; ++place) ++seen[place][order[static_cast<std::size_t>(place)]];
  }
  for (auto const& place : seen) {
    for (auto const times : place) CHECK(std::abs(times - 1000) < 150);  // 5 standard deviations
  }
}

TEST_CASE("sorted by length, equal ones as they stand") {
  auto const data = documents({3, 1, 2, 1, 3, 2});
  auto batches = gpt2::document_batches(data, {.sequences = 6, .order = gpt2::sequence_order::by_length});
  CHECK(drawn(batches.next(), 1) == ids{1, 3, 2, 5, 0, 4});
}

TEST_CASE("from a saved cursor on, the same batches come") {
  auto const data = documents(std::vector<int>(7, 2));
  for (auto const order :
       {gpt2::sequence_order::as_they_stand, gpt2::sequence_order::shuffled, gpt2::sequence_order::by_length}) {
    auto const how = gpt2::batching{.micro_batches = 2, .sequences = 2, .order = order, .seed = 3};
    auto straight = gpt2::document_batches(data, how);
    for (int i = 0; i < 5; ++i) static_cast<void>(straight.next());
    auto resumed = gpt2::document_batches(data, how);
    resumed.seek(straight.cursor());
    for (int i = 0; i < 9; ++i) CHECK(drawn(straight.next(), 2) == drawn(resumed.next(), 2));
  }
  auto batches = gpt2::document_batches(data, {});
  CHECK_THROWS_AS(batches.seek(-1), pw::error);
}

TEST_CASE("batches that cannot be made are refused") {
  auto const data = documents({2, 3});
  for (auto const& how :
       {gpt2::batching{.micro_batches = 0}, gpt2::batching{.sequences = 0}, gpt2::batching{.context = 0},
        gpt2::batching{.context = 8, .padded_to = 7}, gpt2::batching{.padding = -1}}) {
    CHECK(refusal([&] { gpt2::document_batches(data, how); }).starts_with("data: "));
  }
  CHECK(refusal([] { documents({0, 0}); }).find("no tokens") != std::string::npos);
}

TEST_CASE("the kind of data is told by the name's ending") {
  auto const text = temporary_file("abcdefgh", ".txt");
  CHECK(gpt2::read_sequences(text.path, 3, &gpt2::byte_tokenizer::encode).size() == 2);
  auto const squad = temporary_file(R"({"data":[{"paragraphs":[{"context":"abcdefgh"}]}]})", ".json");
  auto const documents = gpt2::read_sequences(squad.path, 3, &gpt2::byte_tokenizer::encode);
  CHECK(documents.size() == 1);
  CHECK(documents.length(0) == 8);
}

TEST_CASE("what stands in the padding changes no bit of a loss on real tokens, nor of a gradient") {
  auto const data = documents({3, 6, 1, 5});
  auto const c = gpt2::configuration{.vocabulary = 400,
                                     .positions = 8,
                                     .width = 24,
                                     .heads = 3,
                                     .layers = 2,
                                     .attention_dropout = 0.1f,
                                     .residual_dropout = 0.1f};
  auto const run = [&](std::int32_t padding, gpt2::loss_on loss) {
    auto batches =
        gpt2::document_batches(data, {.sequences = 4, .context = 6, .padded_to = 8, .padding = padding, .loss = loss});
    auto const batch = batches.next();
    gpt2::token_batch x, t;
    batch.input(0, x), batch.target(0, t);
    auto model = test::whole_model(c);
    pw::stage_context context;
    auto const told = model.forward(context, x, t);
    model.backward(context);
    auto gradients = test::by_name(model.gradients);
    gradients["loss"] = {static_cast<float>(told.value)};
    CHECK(told.weight == batch.counted());
    return gradients;
  };
  CHECK(run(399, gpt2::loss_on::real) == run(17, gpt2::loss_on::real));
  CHECK(run(399, gpt2::loss_on::all) != run(17, gpt2::loss_on::all));
}
