// SPDX-License-Identifier: Apache-2.0
#pragma once
// The safetensors file format: a 64-bit little-endian header length, a JSON header that says name, type, shape and
// place of each tensor, then the values.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/detail/header_text.hpp>

namespace pipewright::inline v0::gpt2 {

/// A safetensors file in memory, checked when read: every tensor's bytes fit its shape and type, and the tensors fill
/// the file without holes or overlap.
class safetensors {
 public:
  struct tensor {
    std::string type;  ///< "F32", "BF16", "I64", ...
    std::vector<std::uint64_t> shape;
    std::uint64_t begin = 0;  ///< bytes into the values
    std::uint64_t end = 0;
  };

  /// Reads a whole file. Throws error where it cannot be read or is not well formed.
  explicit safetensors(std::filesystem::path const& file) : name_(file.string()) {
    auto in = std::ifstream(file, std::ios::binary);
    if (!in || std::filesystem::is_directory(file)) fail("cannot be opened; check the path");
    bytes_.assign(std::istreambuf_iterator<char>(in), {});
    if (in.bad()) fail("cannot be read");
    parse();
  }

  /// Text that the file's maker added, by key.
  [[nodiscard]] auto metadata() const noexcept -> std::map<std::string, std::string> const& { return metadata_; }
  [[nodiscard]] auto tensors() const noexcept -> std::map<std::string, tensor> const& { return tensors_; }
  [[nodiscard]] auto contains(std::string const& key) const -> bool { return tensors_.contains(key); }

  /// Type, shape and place of one tensor. Throws error where there is none of that name.
  [[nodiscard]] auto at(std::string const& key) const -> tensor const& {
    auto const found = tensors_.find(key);
    if (found == tensors_.end()) fail("has no tensor " + key);
    return found->second;
  }

  /// A tensor's values as fp32, from F32, F64, BF16 or F16.
  [[nodiscard]] auto floats(std::string const& key) const -> std::vector<float> {
    auto const& t = at(key);
    if (t.type == "F32") return converted<float, float>(t, [](float v) { return v; });
    if (t.type == "F64") return converted<double, float>(t, [](double v) { return static_cast<float>(v); });
    if (t.type == "BF16") {
      return converted<std::uint16_t, float>(t, [](std::uint32_t v) { return std::bit_cast<float>(v << 16); });
    }
    if (t.type == "F16") return converted<std::uint16_t, float>(t, from_half);
    fail("tensor " + key + " is of type " + t.type + "; expected F32, F64, BF16 or F16");
  }

  /// A tensor's values as 32-bit integers, from I32 or I64.
  [[nodiscard]] auto integers(std::string const& key) const -> std::vector<std::int32_t> {
    auto const& t = at(key);
    if (t.type == "I32") return converted<std::int32_t, std::int32_t>(t, [](std::int32_t v) { return v; });
    if (t.type == "I64") {
      return converted<std::int64_t, std::int32_t>(t, [](std::int64_t v) { return static_cast<std::int32_t>(v); });
    }
    fail("tensor " + key + " is of type " + t.type + "; expected I32 or I64");
  }

 private:
  static constexpr std::uint64_t header_limit = 100'000'000;

  [[noreturn]] void fail(std::string const& what) const { throw error("safetensors file " + name_ + " " + what); }

  void parse() {
    static_assert(std::endian::native == std::endian::little);
    auto length = std::uint64_t{};
    if (bytes_.size() < sizeof length) fail("is too short for a header");
    std::memcpy(&length, bytes_.data(), sizeof length);
    if (length > header_limit)
      fail("says its header is " + std::to_string(length) + " bytes; the format allows 100 MB");
    if (length > bytes_.size() - sizeof length) fail("ends inside its header");
    values_ = sizeof length + length;
    try {
      read_header({bytes_.data() + sizeof length, length});
    } catch (detail::header_fault const& fault) {
      fail("has a bad header at byte " + std::to_string(fault.position) + ": " + fault.what);
    }
    check_places();
  }

  void read_header(std::string_view text) {
    auto in = detail::header_text(text);
    in.object([&](std::string key) {
      if (key == "__metadata__") {
        in.object([&](std::string inner) {
          if (!metadata_.emplace(inner, in.string()).second) in.fail("metadata " + inner + " stands twice");
        });
        return;
      }
      auto [place, fresh] = tensors_.emplace(key, tensor{});
      if (!fresh) in.fail("tensor " + key + " stands twice");
      auto seen = 0;
      in.object([&](std::string const& field) {
        if (field == "dtype") {
          place->second.type = in.string();
          seen |= 1;
        } else if (field == "shape") {
          place->second.shape = in.numbers();
          seen |= 2;
        } else if (field == "data_offsets") {
          auto const offsets = in.numbers();
          if (offsets.size() != 2) in.fail("data_offsets of tensor " + key + " are not two numbers");
          place->second.begin = offsets[0];
          place->second.end = offsets[1];
          seen |= 4;
        } else {
          in.fail("tensor " + key + " has an unknown field " + field);
        }
      });
      if (seen != 7) in.fail("tensor " + key + " lacks dtype, shape or data_offsets");
    });
    in.end();
  }

  /// Bytes of one value, or 0 for a type that the format does not have.
  static auto width_of(std::string_view type) -> std::uint64_t {
    if (type == "F64" || type == "I64" || type == "U64") return 8;
    if (type == "F32" || type == "I32" || type == "U32") return 4;
    if (type == "F16" || type == "BF16" || type == "I16" || type == "U16") return 2;
    if (type == "I8" || type == "U8" || type == "BOOL" || type == "F8_E4M3" || type == "F8_E5M2") return 1;
    return 0;
  }

  void check_places() const {
    auto const available = bytes_.size() - values_;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> places;
    for (auto const& [key, t] : tensors_) {
      auto size = width_of(t.type);
      if (size == 0) fail("tensor " + key + " is of unknown type " + t.type);
      for (auto const extent : t.shape) {
        if (extent != 0 && size > available / extent) fail("tensor " + key + " is larger than the file");
        size *= extent;
      }
      if (t.begin > t.end || t.end > available) fail("tensor " + key + " lies outside the file");
      if (t.end - t.begin != size) fail("tensor " + key + " does not have the bytes of its shape");
      places.emplace_back(t.begin, t.end);
    }
    std::sort(places.begin(), places.end());
    auto reached = std::uint64_t{0};
    for (auto const& [begin, end] : places) {
      if (begin != reached) fail("has a hole or an overlap between tensors at byte " + std::to_string(reached));
      reached = end;
    }
    if (reached != available) fail("has " + std::to_string(available - reached) + " bytes that belong to no tensor");
  }

  template<class Stored, class Result, class Convert>
  [[nodiscard]] auto converted(tensor const& t, Convert convert) const -> std::vector<Result> {
    std::vector<Result> result((t.end - t.begin) / sizeof(Stored));
    auto const* from = bytes_.data() + values_ + t.begin;
    for (auto& each : result) {
      Stored value;
      std::memcpy(&value, from, sizeof value);
      from += sizeof value;
      each = convert(value);
    }
    return result;
  }

  static auto from_half(std::uint16_t bits) -> float {
    auto const sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
    auto const exponent = static_cast<std::uint32_t>(bits >> 10 & 31u);
    auto const fraction = static_cast<std::uint32_t>(bits & 1023u);
    if (exponent == 0) return (sign != 0 ? -1.f : 1.f) * static_cast<float>(fraction) * 0x1p-24f;
    auto const wide = exponent == 31 ? 255u : exponent + 112;
    return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
  }

  std::string name_;
  std::vector<char> bytes_;
  std::uint64_t values_ = 0;  ///< where they begin in bytes_
  std::map<std::string, tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace pipewright::inline v0::gpt2
