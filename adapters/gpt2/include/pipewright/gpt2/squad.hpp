// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <deque>
#include <filesystem>
#include <iterator>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/safetensors/json_reader.hpp>
#include <pipewright/safetensors/mapped_file.hpp>

namespace pipewright::inline v0::gpt2 {

/// The contexts of a SQuAD file (Rajpurkar et al. 2016; versions 1.1 and 2.0: data[].paragraphs[].context), in the file's
/// order, equal ones once. Throws error where the file cannot be read, is no such file or has no context.
[[nodiscard]] inline auto read_squad(std::filesystem::path const& path) -> std::vector<std::string> {
  auto const mapped = safetensors::mapped_file(path, "SQuAD file");
  auto in = safetensors::json_reader(mapped.text(), "SQuAD file " + path.string());
  std::deque<std::string> contexts;
  std::unordered_set<std::string_view> known;
  auto const one_of = [&](std::string_view key, auto read) {
    auto found = false;
    in.object([&](std::string const& each) {
      if (each != key) return in.skip();
      if (std::exchange(found, true)) in.fail(std::string(key) + " stands twice");
      read();
    });
    if (!found) in.fail("there is no " + std::string(key) + " here");
  };
  auto const paragraph = [&] {
    one_of("context", [&] {
      contexts.push_back(in.string());
      if (!known.insert(contexts.back()).second) contexts.pop_back();
    });
  };
  auto const article = [&] { one_of("paragraphs", [&] { in.list(paragraph); }); };
  one_of("data", [&] { in.list(article); });
  in.end();
  if (contexts.empty()) throw error("SQuAD file " + path.string() + " has no context; give one with text to train on");
  return {std::make_move_iterator(contexts.begin()), std::make_move_iterator(contexts.end())};
}

}  // namespace pipewright::inline v0::gpt2
