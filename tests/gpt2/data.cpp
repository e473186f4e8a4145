// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/data.hpp>

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
using gpt2::part_of_text;

namespace {

auto counting(int n) -> std::vector<std::int32_t> {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) ids[static_cast<std::size_t>(i)] = i;  // a token is its own place
  return ids;
}

}  // namespace

TEST_CASE("bytes are tokens, and back") {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  auto const ids = gpt2::byte_tokenizer::encode(all);
  for (int i = 0; i < 256; ++i) CHECK(ids[static_cast<std::size_t>(i)] == i);
  CHECK(gpt2::byte_tokenizer::decode(ids) == all);
  CHECK(gpt2::byte_tokenizer::decode(std::vector<std::int32_t>{65, -1, 256, 66}) == "AB");
}

TEST_CASE("targets are the next tokens, and training never sees the held-out part") {
  auto const data = gpt2::text_data(counting(1000), 16, 0.2);
  CHECK(data.part(part_of_text::training).size() == 800);
  CHECK(data.part(part_of_text::held_out).front() == 800);
  std::set<std::int32_t> starts;
  gpt2::token_batch x, t;
  for (auto const part : {part_of_text::training, part_of_text::held_out}) {
    for (int step = 0; step < 50; ++step) {
      auto const batch =
          gpt2::text_batch{.data = &data, .sequences = 3, .micro_batches = 4, .step = step, .seed = 5, .part = part};
      for (int m = 0; m < 4; ++m) {
        batch.input(m, x);
        batch.target(m, t);
        REQUIRE(x.batch == gpt2::batch_shape{3, 16});
        REQUIRE(x.ids.size() == 48);
        for (std::size_t i = 0; i < x.ids.size(); ++i) {
          REQUIRE(t.ids[i] == x.ids[i] + 1);
          if (i % 16 != 0) REQUIRE(x.ids[i] == x.ids[i - 1] + 1);
          REQUIRE((t.ids[i] < 800) == (part == part_of_text::training));
          REQUIRE((x.ids[i] < 800) == (part == part_of_text::training));
        }
        if (part == part_of_text::training) starts.insert({x.ids[0], x.ids[16], x.ids[32]});
      }
    }
  }
  CHECK(starts.size() > 350);  // 600 draws of 784 places
  CHECK(*starts.begin() < 20);
  CHECK(*starts.rbegin() > 760);
}

TEST_CASE("micro-batches follow seed, step and index alone") {
  auto const data = gpt2::text_data(counting(5000), 8);
  gpt2::token_batch a, b;
  auto const base = gpt2::text_batch{.data = &data, .sequences = 2, .micro_batches = 4, .step = 3, .seed = 7};
  base.input(1, a);
  base.input(1, b);
  CHECK(a.ids == b.ids);
  auto other = base;
  other.micro_batches = 8;  // another schedule's shape
  other.input(1, b);
  CHECK(a.ids == b.ids);
  base.input(2, b);
  CHECK(a.ids != b.ids);
  other = base;
  other.step = 4;
  other.input(1, b);
  CHECK(a.ids != b.ids);
  other = base;
  other.seed = 8;
  other.input(1, b);
  CHECK(a.ids != b.ids);
}

TEST_CASE("held-out sequences reach from end to end") {
  auto const data = gpt2::text_data(counting(1000), 16, 0.3);
  gpt2::token_batch x, t;
  auto const batch =
      gpt2::text_batch{.data = &data, .sequences = 2, .micro_batches = 3, .part = part_of_text::held_out};
  batch.input(0, x);
  CHECK(x.ids.front() == 700);
  batch.target(2, t);
  CHECK(t.ids.back() == 999);
}

TEST_CASE("data that is too short, absent or empty is refused with a sentence") {
  CHECK_NOTHROW(gpt2::text_data(counting(34), 16));
  CHECK_THROWS_AS(gpt2::text_data(counting(33), 16), pw::error);
  CHECK_THROWS_AS(gpt2::text_data({}, 16), pw::error);
  CHECK_THROWS_AS(static_cast<void>(gpt2::read_text("/nonexistent/text")), pw::error);
  CHECK_THROWS_AS(static_cast<void>(gpt2::read_text(std::filesystem::temp_directory_path())), pw::error);
  auto const path =
      std::filesystem::temp_directory_path() / ("pipewright-empty-" + std::to_string(std::random_device{}()));
  std::ofstream{path};
  CHECK_THROWS_AS(static_cast<void>(gpt2::read_text(path)), pw::error);
  std::ofstream(path) << "text";
  CHECK(gpt2::read_text(path) == "text");
  std::filesystem::remove(path);
}
