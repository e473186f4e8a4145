// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/safetensors/durable_file.hpp>
#include <pipewright/safetensors/file.hpp>
#include <pipewright/safetensors/json_reader.hpp>
#include <pipewright/safetensors/json_text.hpp>
#include <pipewright/safetensors/mapped_file.hpp>
#include <pipewright/safetensors/utf8.hpp>
#include <pipewright/safetensors/write.hpp>

namespace pipewright::inline v0::safetensors {

/// The names that Hugging Face gives the files of a folder.
inline constexpr std::string_view single_file_name = "model.safetensors";
inline constexpr std::string_view index_file_name = "model.safetensors.index.json";

/// A model's tensors, in one file or in several (shards) with an index that says which holds what. Each file is opened once.
class checkpoint {
 public:
  /// Opens a .safetensors file, an index (a name that ends in .json), or a folder with model.safetensors or
  /// model.safetensors.index.json. Throws error where a file cannot be read or is not well formed, and where the index and the
  /// shards do not hold the same names.
  explicit checkpoint(std::filesystem::path const& path) {
    auto found = path;
    if (std::filesystem::is_directory(path)) {
      found = path / single_file_name;
      if (!std::filesystem::exists(found)) found = path / index_file_name;
      if (!std::filesystem::exists(found)) {
        throw error("folder " + path.string() + " holds no weights: neither " + std::string(single_file_name) +
                    " nor " + std::string(index_file_name) + "; check the path");
      }
    }
    name_ = found.string();
    if (found.extension() == ".json") {
      open_shards(found);
    } else {
      files_.emplace_back(found);
      for (auto const& [key, t] : files_.front().tensors()) place_.emplace(key, 0);
    }
  }

  /// The file or index that was opened.
  [[nodiscard]] auto name() const noexcept -> std::string const& { return name_; }
  [[nodiscard]] auto files() const noexcept -> std::span<file const> { return files_; }
  [[nodiscard]] auto contains(std::string const& key) const -> bool { return place_.contains(key); }
  /// All names, in order.
  [[nodiscard]] auto names() const -> std::vector<std::string> {
    std::vector<std::string> all;
    for (auto const& [key, shard] : place_) all.push_back(key);
    return all;
  }

  // As file has them.
  [[nodiscard]] auto at(std::string const& key) const -> tensor const& { return holder(key).at(key); }
  [[nodiscard]] auto bytes(std::string const& key) const -> std::span<std::byte const> {
    return holder(key).bytes(key);
  }
  [[nodiscard]] auto count(std::string const& key) const -> std::size_t { return holder(key).count(key); }
  void read(std::string const& key, std::span<float> to) const { holder(key).read(key, to); }
  [[nodiscard]] auto floats(std::string const& key) const -> std::vector<float> { return holder(key).floats(key); }
  [[nodiscard]] auto integers(std::string const& key) const -> std::vector<std::int32_t> {
    return holder(key).integers(key);
  }

 private:
  [[noreturn]] void fail(std::string const& what) const { throw error("index " + name_ + " " + what); }

  [[nodiscard]] auto holder(std::string const& key) const -> file const& {
    auto const found = place_.find(key);
    if (found == place_.end()) {
      throw error("checkpoint " + name_ + " has no tensor " + shown(key) + "; check that it is of this model");
    }
    return files_[found->second];
  }

  void open_shards(std::filesystem::path const& index) {
    std::map<std::string, std::size_t> shards;
    {
      auto const mapped = mapped_file(index, "index");
      auto in = json_reader(mapped.text(), "index " + name_);
      auto mapped_names = false;
      in.object([&](std::string const& field) {
        if (field != "weight_map") return in.skip();
        if (std::exchange(mapped_names, true)) in.fail("weight_map stands twice");
        in.object([&](std::string const& key) {
          auto const shard = shards.try_emplace(in.string(), shards.size()).first;
          if (!is_plain(shard->first)) {
            in.fail("shard " + shown(shard->first) + " is not a plain file name; shards lie beside their index");
          }
          if (!place_.emplace(key, shard->second).second) in.fail("tensor " + shown(key) + " stands twice");
        });
      });
      in.end();
      if (!mapped_names) in.fail("there is no weight_map");
    }
    std::vector<std::string const*> names(shards.size());
    for (auto const& [name, number] : shards) names[number] = &name;
    files_.reserve(names.size());
    for (auto const* name : names) files_.emplace_back(index.parent_path() / *name);
    for (auto const& [key, shard] : place_) {
      if (!files_[shard].contains(key)) {
        fail("says that tensor " + shown(key) + " is in " + files_[shard].name() +
             ", which does not have it; fetch the shards that belong to the index");
      }
    }
    for (std::size_t i = 0; i < files_.size(); ++i) {
      for (auto const& [key, t] : files_[i].tensors()) {
        auto const found = place_.find(key);
        if (found == place_.end()) {
          fail("does not name tensor " + shown(key) + " of " + files_[i].name() +
               "; fetch the shards that belong to the index");
        }
        if (found->second != i) {
          fail("has tensor " + shown(key) + " in two shards, " + files_[found->second].name() + " and " +
               files_[i].name() + "; fetch the shards that belong to the index");
        }
      }
    }
  }

  static auto is_plain(std::string_view name) -> bool {
    return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
           name.find('\0') == std::string_view::npos && name.size() <= 255;
  }

  std::string name_;
  std::vector<file> files_;
  std::map<std::string, std::size_t> place_;
};

/// Hugging Face's name of shard `number` (from 1) of `count`.
[[nodiscard]] inline auto shard_name(int number, int count) -> std::string {
  auto const five = [](int n) {
    auto const digits = std::to_string(n);
    return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
  };
  return "model-" + five(number) + "-of-" + five(count) + ".safetensors";
}

/// Writes the index of a folder's shards: which shard has which tensor, and how many bytes they are together. Write it last.
inline void write_index(std::filesystem::path const& folder, std::map<std::string, std::string> const& shard_of,
                        std::uint64_t total_bytes) {
  auto text = R"({"metadata": {"total_size": )" + std::to_string(total_bytes) + "}, \"weight_map\": {";
  auto const* separator = "\n";
  for (auto const& [key, shard] : shard_of) {
    text += separator + in_json(key) + ": " + in_json(shard);
    separator = ",\n";
  }
  write_durably(folder / index_file_name, text + "\n}}\n");
}

/// Writes a model into a folder, which it makes: in one file where its values are at most `largest` bytes, else in shards of
/// at most as many (a larger tensor has its own) and an index. Tensors keep their order over the shards. One file replaces
/// what stood in the folder at once; several do not: to keep the old model until the new one is whole, write into a new
/// folder. Shards of other names are left.
inline void write_folder(std::filesystem::path const& folder, std::vector<tensor_view> const& tensors,
                         std::uint64_t largest = UINT64_MAX,
                         std::map<std::string, std::string> const& metadata = torch_metadata()) {
  auto code = std::error_code{};
  std::filesystem::create_directories(folder, code);
  if (code) throw error("cannot make folder " + folder.string() + ": " + code.message() + "; choose another");
  detail::check_to_write(folder / single_file_name, tensors);

  std::vector<std::vector<tensor_view>> shards(1);
  auto total = std::uint64_t{0}, in_last = std::uint64_t{0};
  for (auto const& t : tensors) {
    auto const bytes = std::uint64_t{t.values.size()};
    if (!shards.back().empty() && (in_last > largest || bytes > largest - in_last)) {
      shards.emplace_back();
      in_last = 0;
    }
    shards.back().push_back(t);
    in_last += bytes;
    total += bytes;
  }
  if (shards.size() == 1) {
    write(folder / single_file_name, std::move(shards.front()), metadata);
    std::filesystem::remove(folder / index_file_name, code);
    return;
  }
  std::map<std::string, std::string> shard_of;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    auto const name = shard_name(static_cast<int>(i + 1), static_cast<int>(shards.size()));
    for (auto const& t : shards[i]) shard_of.emplace(t.name, name);
    write(folder / name, std::move(shards[i]), metadata);
  }
  write_index(folder, shard_of, total);
  std::filesystem::remove(folder / single_file_name, code);
}

}  // namespace pipewright::inline v0::safetensors
