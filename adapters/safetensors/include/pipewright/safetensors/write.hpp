// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <bit>
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
#include <pipewright/safetensors/json_text.hpp>
#include <pipewright/safetensors/utf8.hpp>
#include <pipewright/safetensors/value_type.hpp>

namespace pipewright::inline v0::safetensors {

/// A tensor to write; its values stay where they are.
struct tensor_view {
  std::string name;
  value_type type = value_type::f32;
  std::vector<std::uint64_t> shape;
  std::span<std::byte const> values;

  tensor_view(std::string called, value_type of, std::vector<std::uint64_t> extents, std::span<std::byte const> bytes)
      : name(std::move(called)), type(of), shape(std::move(extents)), values(bytes) {}
  tensor_view(std::string called, std::vector<std::uint64_t> extents, std::span<float const> floats)
      : tensor_view(std::move(called), value_type::f32, std::move(extents), std::as_bytes(floats)) {}
};

/// What transformers looks for: the framework whose layouts the tensors have.
[[nodiscard]] inline auto torch_metadata() -> std::map<std::string, std::string> { return {{"format", "pt"}}; }

namespace detail {

inline void check_to_write(std::filesystem::path const& path, std::vector<tensor_view> const& tensors) {
  auto const fail = [&](tensor_view const& t, std::string const& what) {
    throw error("cannot write " + path.string() + ": tensor " + shown(t.name) + " " + what);
  };
  std::vector<std::string_view> names;
  for (auto const& t : tensors) {
    auto bytes = std::uint64_t{size_of(t.type)};
    for (auto const extent : t.shape) {
      if (extent != 0 && bytes > UINT64_MAX / extent) fail(t, "has a shape of too many values");
      bytes *= extent;
    }
    if (bytes != t.values.size()) {
      fail(t, "has " + std::to_string(t.values.size()) + " bytes, and its shape wants " + std::to_string(bytes) +
                  "; give it the shape of its values");
    }
    if (t.name == "__metadata__") fail(t, "has the name that the format keeps for itself; rename it");
    if (first_that_is_not_utf8(t.name) != t.name.size()) fail(t, "has a name that is not UTF-8; rename it");
    names.push_back(t.name);
  }
  std::sort(names.begin(), names.end());
  if (auto const twice = std::adjacent_find(names.begin(), names.end()); twice != names.end()) {
    throw error("cannot write " + path.string() + ": two tensors are called " + shown(*twice) + "; rename one");
  }
}

}  // namespace detail

/// Writes a file as the format's own library would, byte for byte: tensors by falling type, then by name, the header padded to
/// a multiple of 8 bytes. The whole file or nothing (see write_durably). Throws error where it cannot be written, where two
/// names are equal, or where a shape does not fit its values.
inline void write(std::filesystem::path const& path, std::vector<tensor_view> tensors,
                  std::map<std::string, std::string> const& metadata = torch_metadata()) {
  static_assert(std::endian::native == std::endian::little);
  detail::check_to_write(path, tensors);
  std::sort(tensors.begin(), tensors.end(), [](tensor_view const& a, tensor_view const& b) {
    return a.type != b.type ? a.type > b.type : a.name < b.name;
  });

  std::string header = "{";
  auto const member = [&](std::string_view key) {
    if (header.size() > 1) header += ',';
    header += in_json(key) + ":";
  };
  if (!metadata.empty()) {
    member("__metadata__");
    auto separator = '{';
    for (auto const& [key, value] : metadata) {
      header += separator + in_json(key) + ":" + in_json(value);
      separator = ',';
    }
    header += '}';
  }
  auto at = std::uint64_t{0};
  for (auto const& t : tensors) {
    member(t.name);
    header += R"({"dtype":)" + in_json(name_of(t.type)) + R"(,"shape":[)";
    for (std::size_t i = 0; i < t.shape.size(); ++i) {
      if (i > 0) header += ',';
      header += std::to_string(t.shape[i]);
    }
    header += R"(],"data_offsets":[)" + std::to_string(at) + "," + std::to_string(at + t.values.size()) + "]}";
    at += t.values.size();
  }
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');

  write_durably(path, [&](auto&& append) {
    auto const length = std::uint64_t{header.size()};
    append(std::as_bytes(std::span(&length, 1)));
    append(std::string_view(header));
    for (auto const& t : tensors) append(t.values);
  });
}

}  // namespace pipewright::inline v0::safetensors
