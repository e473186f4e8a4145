// SPDX-License-Identifier: Apache-2.0
#pragma once
// A model from the files of the two forms in which Hugging Face keeps it.
#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <pipewright/tokenizer/detail/files.hpp>

namespace pipewright::inline v0::tokenizer::detail {

inline constexpr std::string_view end_of_text = "<|endoftext|>";

/// Reads merges.txt: a pair a line, of ranks that rise; lines that begin with #version are none.
inline void read_merges(std::filesystem::path const& path, model_maker& into) {
  auto const file = tokenizer_file(path);
  auto const text = file.text();
  auto rest = std::string_view(text);
  for (std::size_t number = 1; !rest.empty(); ++number) {
    auto line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("#version")) continue;
    auto const place = [&] { return "line " + std::to_string(number); };
    auto const space = line.find(' ');
    if (space == 0 || space >= line.size() - 1 || line.find(' ', space + 1) != line.npos) {
      file.fail("has no merge at " + place() + ": it is " + shown_text(line) +
                ", not two tokens with one space between them");
    }
    into.merge(file, line.substr(0, space), line.substr(space + 1), place);
  }
}

/// Reads vocab.json and merges.txt. `<|endoftext|>` is an added token; where the vocabulary lacks it, one after its last.
[[nodiscard]] inline auto read_two_files(std::filesystem::path const& vocabulary, std::filesystem::path const& merges)
    -> model {
  auto const file = tokenizer_file(vocabulary);
  auto maker = model_maker(file);
  maker.vocabulary(file.json());
  maker.add(std::string(end_of_text));
  read_merges(merges, maker);
  return maker.finish();
}

/// A part of tokenizer.json, with its name for messages.
class json_part {
 public:
  json_part(tokenizer_file const& file, nlohmann::json const& value, std::string name)
      : file_(&file), value_(&value), name_(std::move(name)) {}

  /// A member; null where there is none, and where this is null.
  [[nodiscard]] auto operator[](std::string const& key) const -> json_part {
    static auto const null = nlohmann::json();
    if (!value_->is_object() && !value_->is_null()) fail("should be an object");
    auto const found = value_->is_object() ? value_->find(key) : value_->end();
    return {*file_, value_->is_object() && found != value_->end() ? *found : null,
            name_.empty() ? key : name_ + "." + key};
  }
  /// Refuses any value but these.
  void expect(std::initializer_list<nlohmann::json> allowed) const {
    if (std::ranges::find(allowed, *value_) == allowed.end()) {
      fail("should be " + shown(*allowed.begin()) + "; only GPT-2's kind of byte-level tokenizer is read");
    }
  }
  [[nodiscard]] auto list() const -> nlohmann::json::array_t const& {
    static auto const none = nlohmann::json::array_t();
    if (value_->is_null()) return none;
    if (!value_->is_array()) fail("should be a list");
    return value_->get_ref<nlohmann::json::array_t const&>();
  }
  [[nodiscard]] auto text() const -> std::string const& {
    if (!value_->is_string() || value_->get_ref<std::string const&>().empty()) fail("should be a text");
    return value_->get_ref<std::string const&>();
  }
  [[nodiscard]] auto flag() const -> bool {
    expect({false, true, nullptr});
    return *value_ == true;
  }
  [[nodiscard]] auto value() const -> nlohmann::json const& { return *value_; }
  [[nodiscard]] auto name() const -> std::string const& { return name_; }
  [[noreturn]] void fail(std::string const& what) const {
    file_->fail("has " + shown(*value_) + " as its " + name_ + "; it " + what);
  }

 private:
  tokenizer_file const* file_;
  nlohmann::json const* value_;
  std::string name_;
};

/// Reads the merges of tokenizer.json: pairs, or (before 2024) texts of two tokens and a space.
inline void read_merges(tokenizer_file const& file, json_part const& merges, model_maker& into) {
  std::size_t number = 0;
  for (auto const& each : merges.list()) {
    auto const place = [&] { return merges.name() + "[" + std::to_string(number) + "]"; };
    auto const text = [](nlohmann::json const& v) {
      return v.is_string() ? std::string_view(v.get_ref<std::string const&>()) : std::string_view();
    };
    auto left = std::string_view(), right = std::string_view();
    if (each.is_array() && each.size() == 2) {
      left = text(each[0]);
      right = text(each[1]);
    } else if (auto const both = text(each); std::ranges::count(both, ' ') == 1) {
      left = both.substr(0, both.find(' '));
      right = both.substr(left.size() + 1);
    }
    if (left.empty() || right.empty())
      file.fail("has " + shown(each) + " as its " + place() + ", not a pair of tokens");
    into.merge(file, left, right, place);
    ++number;
  }
}

/// Reads tokenizer.json. Its truncation and padding are left to those who make batches.
[[nodiscard]] inline auto read_one_file(std::filesystem::path const& path) -> model {
  auto const file = tokenizer_file(path);
  auto const json = file.json();
  auto const all = json_part(file, json, "");
  if (!json.is_object()) file.fail("is no tokenizer: it should be a JSON object with a model");

  all["normalizer"].expect({nullptr});
  all["pre_tokenizer"]["type"].expect({"ByteLevel"});
  all["pre_tokenizer"]["add_prefix_space"].expect({false, nullptr});
  all["pre_tokenizer"]["use_regex"].expect({true, nullptr});
  all["post_processor"]["type"].expect({"ByteLevel", nullptr});
  all["decoder"]["type"].expect({"ByteLevel"});
  auto const bpe = all["model"];
  bpe["type"].expect({"BPE", nullptr});
  bpe["dropout"].expect({nullptr, 0});
  bpe["continuing_subword_prefix"].expect({"", nullptr});
  bpe["end_of_word_suffix"].expect({"", nullptr});
  bpe["ignore_merges"].expect({false, nullptr});

  auto maker = model_maker(file);
  maker.vocabulary(bpe["vocab"].value());
  auto const added = all["added_tokens"];
  for (std::size_t i = 0; i < added.list().size(); ++i) {
    auto const each = json_part(file, added.list()[i], added.name() + "[" + std::to_string(i) + "]");
    for (auto const* wish : {"single_word", "lstrip", "rstrip"}) each[wish].expect({false, nullptr});
    maker.add(each["content"].text(), each["id"].value(), each["normalized"].flag());
  }
  read_merges(file, bpe["merges"], maker);
  return maker.finish();
}

/// Reads what a folder has, or a tokenizer.json.
[[nodiscard]] inline auto read(std::filesystem::path const& place) -> model {
  if (!std::filesystem::is_directory(place)) return read_one_file(place);
  if (std::filesystem::exists(place / "tokenizer.json")) return read_one_file(place / "tokenizer.json");
  if (!std::filesystem::exists(place / "vocab.json")) {
    throw error("tokenizer folder " + place.string() +
                " has neither tokenizer.json nor vocab.json and merges.txt; check the path");
  }
  return read_two_files(place / "vocab.json", place / "merges.txt");
}

}  // namespace pipewright::inline v0::tokenizer::detail
