// SPDX-License-Identifier: Apache-2.0
#pragma once
// The safetensors file format: a 64-bit little-endian header length, a JSON header that says name, type, shape and
// place of each tensor, then the values.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/safetensors/json_reader.hpp>
#include <pipewright/safetensors/mapped_file.hpp>
#include <pipewright/safetensors/utf8.hpp>
#include <pipewright/safetensors/value_type.hpp>

namespace pipewright::inline v0::safetensors {

/// Type, shape and place of one tensor.
struct tensor {
  value_type type = value_type::f32;
  std::vector<std::uint64_t> shape;  ///< empty: a single value
  std::uint64_t begin = 0;           ///< bytes into the file's values
  std::uint64_t end = 0;
};

/// A safetensors file, mapped and checked when opened: every tensor's bytes fit its shape and type, and the tensors fill
/// the file without holes or overlap. A name stands for one tensor. Only the header is kept in memory.
class file {
 public:
  /// Throws error where it cannot be read or is not well formed.
  explicit file(std::filesystem::path const& path) : name_(path.string()), mapped_(path, "safetensors file") {
    static_assert(std::endian::native == std::endian::little);
    auto const all = mapped_.bytes();
    auto length = std::uint64_t{};
    if (all.size() < sizeof length) damaged("is too short for a header");
    std::memcpy(&length, all.data(), sizeof length);
    if (length > header_limit) {
      damaged("says its header is " + std::to_string(length) + " bytes; the format allows 100 MB");
    }
    if (length > all.size() - sizeof length) damaged("ends inside its header");
    values_ = all.subspan(sizeof length + length);
    read_header(mapped_.text().substr(sizeof length, length));
    check_places();
  }

  /// Where it was opened.
  [[nodiscard]] auto name() const noexcept -> std::string const& { return name_; }
  /// Text that the file's maker added, by key.
  [[nodiscard]] auto metadata() const noexcept -> std::map<std::string, std::string> const& { return metadata_; }
  [[nodiscard]] auto tensors() const noexcept -> std::map<std::string, tensor> const& { return tensors_; }
  [[nodiscard]] auto contains(std::string const& key) const -> bool { return tensors_.contains(key); }

  /// Type, shape and place of one tensor. Throws error where there is none of that name.
  [[nodiscard]] auto at(std::string const& key) const -> tensor const& {
    auto const found = tensors_.find(key);
    if (found == tensors_.end()) fail("has no tensor " + shown(key) + "; check that it is of this model");
    return found->second;
  }

  /// A tensor's bytes as they stand in the file, as long as this file is open. They may stand at any address.
  [[nodiscard]] auto bytes(std::string const& key) const -> std::span<std::byte const> {
    auto const& t = at(key);
    return values_.subspan(t.begin, t.end - t.begin);
  }

  /// How many values a tensor has.
  [[nodiscard]] auto count(std::string const& key) const -> std::size_t {
    auto const& t = at(key);
    return (t.end - t.begin) / size_of(t.type);
  }

  /// Writes a tensor's values as fp32, from F32, F64, BF16 or F16, into as many places.
  void read(std::string const& key, std::span<float> to) const {
    if (auto const have = count(key); to.size() != have) {
      fail("tensor " + shown(key) + " has " + std::to_string(have) + " values, and " + std::to_string(to.size()) +
           " are asked for; check the model's sizes");
    }
    switch (at(key).type) {
      case value_type::f32: return convert<float>(key, to, [](float v) { return v; });
      case value_type::f64: return convert<double>(key, to, [](double v) { return static_cast<float>(v); });
      case value_type::f16: return convert<std::uint16_t>(key, to, from_half);
      case value_type::bf16: return convert<std::uint16_t>(key, to, from_bfloat);
      default: wrong_type(key, "F32, F64, F16 or BF16");
    }
  }

  /// The same in memory of its own.
  [[nodiscard]] auto floats(std::string const& key) const -> std::vector<float> {
    std::vector<float> result(count(key));
    read(key, result);
    return result;
  }

  /// A tensor's values as 32-bit integers, from I32 or I64. Throws error where one does not fit.
  [[nodiscard]] auto integers(std::string const& key) const -> std::vector<std::int32_t> {
    std::vector<std::int32_t> result(count(key));
    auto const to = std::span(result);
    switch (at(key).type) {
      case value_type::i32: convert<std::int32_t>(key, to, [](std::int32_t v) { return v; }); break;
      case value_type::i64:
        convert<std::int64_t>(key, to, [&](std::int64_t v) {
          if (!std::in_range<std::int32_t>(v)) {
            fail("tensor " + shown(key) + " holds " + std::to_string(v) + ", which does not fit 32 bits");
          }
          return static_cast<std::int32_t>(v);
        });
        break;
      default: wrong_type(key, "I32 or I64");
    }
    return result;
  }

 private:
  static constexpr std::uint64_t header_limit = 100'000'000;

  [[noreturn]] void fail(std::string const& what) const { throw error("safetensors file " + name_ + " " + what); }
  [[noreturn]] void damaged(std::string const& what) const { fail(what + "; make or fetch it anew"); }
  [[noreturn]] void wrong_type(std::string const& key, char const* expected) const {
    fail("tensor " + shown(key) + " is of type " + std::string(name_of(at(key).type)) + "; expected " + expected);
  }

  void read_header(std::string_view text) {
    auto in = json_reader(text, "safetensors file " + name_ + "'s header");
    in.object([&](std::string const& key) {
      if (key == "__metadata__") {
        if (!metadata_.empty()) in.fail("__metadata__ stands twice");
        in.object([&](std::string const& inner) {
          if (!metadata_.emplace(inner, in.string()).second) in.fail("metadata " + shown(inner) + " stands twice");
        });
        return;
      }
      auto [place, fresh] = tensors_.emplace(key, tensor{});
      if (!fresh) in.fail("tensor " + shown(key) + " stands twice");
      read_tensor(in, key, place->second);
    });
    in.end();
  }

  static void read_tensor(json_reader& in, std::string const& key, tensor& to) {
    enum : unsigned { type = 1, shape = 2, place = 4 };
    auto seen = 0u;
    auto const once = [&](unsigned field) {
      if ((seen & field) != 0) in.fail("a field of tensor " + shown(key) + " stands twice");
      seen |= field;
    };
    auto const numbers = [&] {
      std::vector<std::uint64_t> all;
      in.list([&] { all.push_back(in.natural()); });
      all.shrink_to_fit();
      return all;
    };
    in.object([&](std::string const& field) {
      if (field == "dtype") {
        once(type);
        auto const name = in.string();
        auto const known = value_type_named(name);
        if (!known) in.fail("tensor " + shown(key) + " is of unknown type " + shown(name));
        to.type = *known;
      } else if (field == "shape") {
        once(shape);
        to.shape = numbers();
      } else if (field == "data_offsets") {
        once(place);
        auto const offsets = numbers();
        if (offsets.size() != 2) in.fail("data_offsets of tensor " + shown(key) + " are not two numbers");
        to.begin = offsets[0];
        to.end = offsets[1];
      } else {
        in.fail("tensor " + shown(key) + " has an unknown field " + shown(field));
      }
    });
    if (seen != (type | shape | place)) in.fail("tensor " + shown(key) + " lacks dtype, shape or data_offsets");
  }

  void check_places() const {
    auto const available = std::uint64_t{values_.size()};
    std::vector<std::pair<std::uint64_t, std::uint64_t>> places;
    places.reserve(tensors_.size());
    for (auto const& [key, t] : tensors_) {
      auto size = std::uint64_t{size_of(t.type)};
      auto const empty = std::find(t.shape.begin(), t.shape.end(), 0u) != t.shape.end();
      if (empty) size = 0;
      for (auto const extent : t.shape) {
        if (!empty && size > available / extent) damaged("tensor " + shown(key) + " is larger than the file");
        size *= extent;
      }
      if (t.begin > t.end || t.end > available) damaged("tensor " + shown(key) + " lies outside the file");
      if (t.end - t.begin != size) damaged("tensor " + shown(key) + " does not have the bytes of its shape");
      places.emplace_back(t.begin, t.end);
    }
    std::sort(places.begin(), places.end());
    auto reached = std::uint64_t{0};
    for (auto const& [begin, end] : places) {
      if (begin != reached) damaged("has a hole or an overlap between tensors at byte " + std::to_string(reached));
      reached = end;
    }
    if (reached != available) {
      damaged("has " + std::to_string(available - reached) + " bytes that belong to no tensor");
    }
  }

  template<class Stored, class Result, class Convert>
  void convert(std::string const& key, std::span<Result> to, Convert value_of) const {
    auto const* from = bytes(key).data();
    for (auto& each : to) {
      Stored value;
      std::memcpy(&value, from, sizeof value);
      from += sizeof value;
      each = value_of(value);
    }
  }

  std::string name_;
  mapped_file mapped_;
  std::span<std::byte const> values_;
  std::map<std::string, tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace pipewright::inline v0::safetensors
