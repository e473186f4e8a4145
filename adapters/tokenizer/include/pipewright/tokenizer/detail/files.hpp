// SPDX-License-Identifier: Apache-2.0
#pragma once
// What stands in vocab.json and merges.txt, or in tokenizer.json: read whole, checked whole. What the files could ask for
// and byte_pair does not do is refused, so that no text is ever encoded otherwise than by Hugging Face's reader.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <pipewright/error.hpp>
#include <pipewright/tokenizer/detail/alphabet.hpp>
#include <pipewright/tokenizer/detail/merges.hpp>

namespace pipewright::inline v0::tokenizer::detail {

/// A text that is one token wherever it stands, and never a part of words.
struct added_token {
  std::string text;
  std::int32_t id;
  bool late;  ///< looked for only where no token that is not late was found
};

/// All that encoding needs.
struct model {
  std::vector<std::string> tokens;        ///< the bytes of each
  std::array<std::int32_t, 256> bytes{};  ///< the token of each
  merge_table merges;
  std::vector<added_token> added;
};

/// Text from a file, as it may stand in a message: quoted, ASCII, and not too long.
[[nodiscard]] inline auto shown(nlohmann::json const& value) -> std::string {
  constexpr std::size_t enough = 24;
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  auto const cut = value.is_string() && value.get_ref<std::string const&>().size() > enough;
  auto const text = cut ? nlohmann::json(value.get_ref<std::string const&>().substr(0, enough)) : value;
  return text.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + (cut ? "..." : "");
}
[[nodiscard]] inline auto shown_text(std::string_view text) -> std::string {
  return shown(nlohmann::json(std::string(text.substr(0, 25))));
}

/// How deep the lists and objects of a JSON text nest.
[[nodiscard]] inline auto depth(std::string_view text) noexcept -> int {
  auto deepest = 0, now = 0;
  auto quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto const c = text[i];
    if (c == '"') quoted = !quoted;
    else if (quoted) i += c == '\\';
    else if (c == '[' || c == '{') deepest = std::max(deepest, ++now);
    else if (c == ']' || c == '}') --now;
  }
  return deepest;
}

/// Says what is wrong with a file.
class tokenizer_file {
 public:
  explicit tokenizer_file(std::filesystem::path const& path) : path_(path) {}

  [[nodiscard]] auto name() const -> std::string { return path_.string(); }
  [[noreturn]] void fail(std::string const& what) const { throw error("tokenizer file " + name() + " " + what); }

  [[nodiscard]] auto text() const -> std::string {
    auto fault = std::error_code();
    if (!std::filesystem::is_regular_file(path_, fault)) fail("is not there, or is no file; check the path");
    auto in = std::ifstream(path_, std::ios::binary);
    auto const size = std::filesystem::file_size(path_, fault);
    if (!in || fault) fail("cannot be opened; check its permissions");
    auto result = std::string(size, '\0');
    in.read(result.data(), static_cast<std::streamsize>(size));
    if (static_cast<std::uintmax_t>(in.gcount()) != size) fail("cannot be read to its end");
    return result;
  }

  [[nodiscard]] auto json() const -> nlohmann::json {
    auto const source = text();
    // Before it is parsed: the parser's way of watching this takes time that grows with the square of a list's length.
    if (depth(source) > 32) fail("nests lists or objects more than 32 deep; no tokenizer does");
    try {
      return nlohmann::json::parse(source);
    } catch (nlohmann::json::parse_error const& fault) {
      auto const read = std::string_view(source).substr(0, fault.byte > 0 ? fault.byte - 1 : 0);
      auto const line = std::ranges::count(read, '\n') + 1;
      auto const column = read.size() - (read.rfind('\n') + 1) + 1;  // npos + 1 is 0
      fail((fault.byte > source.size() ? "ends too early, at line " : "is not JSON at line ") + std::to_string(line) +
           ", column " + std::to_string(column) + "; take it anew from where it came from");
    } catch (nlohmann::json::exception const&) {
      fail("has a number that is too large");
    }
  }

 private:
  std::filesystem::path path_;
};

/// Collects the vocabulary, then what refers to it.
class model_maker {
 public:
  explicit model_maker(tokenizer_file const& file) : file_(file) {}

  /// Takes a vocabulary: an object of tokens and their ids.
  void vocabulary(nlohmann::json const& tokens) {
    if (!tokens.is_object()) file_.fail("has no vocabulary: an object of tokens and their ids");
    for (auto const& [text, id] : tokens.items()) {
      if (text.empty()) file_.fail("has an empty token");
      ids_.emplace(text, id_of(text, id));
    }
  }
  /// Takes an added token, which may stand in the vocabulary too.
  void add(std::string const& text, nlohmann::json const& id, bool late) {
    auto const place = ids_.emplace(text, id_of(text, id)).first;
    if (place->second != id_of(text, id)) {
      file_.fail("adds the token " + shown_text(text) + " with the id " + shown(id) + ", but has it already as " +
                 std::to_string(place->second));
    }
    if (!added_ids_.insert(place->second).second) file_.fail("adds the token " + shown_text(text) + " twice");
    added_.push_back({text, place->second, late});
  }
  /// The id of an added token of this text: its own where the vocabulary has it, otherwise the one after all others.
  void add(std::string const& text) {
    auto const found = ids_.find(text);
    add(text, found != ids_.end() ? found->second : static_cast<std::int32_t>(ids_.size()), false);
  }
  /// Takes the merge of the next rank. `place` says where it stands: "line 7".
  template<class Place>
  void merge(tokenizer_file const& file, std::string_view left, std::string_view right, Place const& place) {
    both_.assign(left);
    both_ += right;
    std::int32_t ids[3];
    auto* id = ids;
    for (auto const token : {left, right, std::string_view(both_)}) {
      auto const found = ids_.find(std::string(token));
      if (found == ids_.end()) {
        file.fail("needs the token " + shown_text(token) + " for its merge at " + place() + ", but the vocabulary in " +
                  file_.name() + " has none");
      }
      *id++ = found->second;
    }
    if (!made_.merges.add(ids[0], ids[1], ids[2])) {
      file.fail("merges " + shown_text(left) + " and " + shown_text(right) + " a second time at " + place());
    }
  }

  /// The model, once every id from 0 on is some token's and every byte has one.
  [[nodiscard]] auto finish() -> model {
    auto const count = ids_.size();
    made_.tokens.resize(count);
    auto names = std::vector<std::string const*>(count);
    for (auto const& [text, id] : ids_) {
      auto const at = static_cast<std::size_t>(id);
      if (at >= count) {
        file_.fail("gives " + shown_text(text) + " the id " + std::to_string(id) + ", but has only " +
                   std::to_string(count) + " tokens; ids must be 0 to " + std::to_string(count - 1) +
                   ", each of them once");
      }
      if (names[at] != nullptr) {
        auto const [first, second] = std::minmax(*names[at], text);
        file_.fail("gives the id " + std::to_string(id) + " to both " + shown_text(first) + " and " +
                   shown_text(second));
      }
      names[at] = &text;
      made_.tokens[at] = bytes_of(text).value_or(text);
    }
    for (auto const& each : added_) made_.tokens[static_cast<std::size_t>(each.id)] = each.text;
    made_.added = std::move(added_);
    for (std::size_t byte = 0; byte < 256; ++byte) {
      auto const letter = letter_of(static_cast<unsigned char>(byte));
      auto const found = ids_.find(letter);
      if (found == ids_.end()) {
        file_.fail("has no token " + shown_text(letter) + " for the byte " + std::to_string(byte) +
                   "; take a byte-level vocabulary, as GPT-2's is");
      }
      made_.bytes[byte] = found->second;
    }
    return std::move(made_);
  }

 private:
  [[nodiscard]] auto id_of(std::string const& text, nlohmann::json const& id) const -> std::int32_t {
    constexpr auto largest = std::uint64_t{0x7FFF'FFFF};
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::uint64_t>() > largest) {
      file_.fail("gives " + shown_text(text) + " the id " + shown(id) + "; ids are whole numbers from 0 to 2147483647");
    }
    return id.get<std::int32_t>();
  }

  tokenizer_file const& file_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::vector<added_token> added_;
  std::unordered_set<std::int32_t> added_ids_;
  std::string both_;
  model made_;
};

}  // namespace pipewright::inline v0::tokenizer::detail
