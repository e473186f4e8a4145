// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>

#include <pipewright/error.hpp>
#include <pipewright/safetensors/mapped_file.hpp>

namespace pipewright::inline v0::gpt2 {

/// A file of 16-bit tokens as llm.c writes them, mapped: a header of 256 32-bit integers (20240520, version 1, the number of
/// tokens, zeros), then the tokens.
class token_file {
 public:
  /// Throws error where it cannot be read or is not well formed.
  explicit token_file(std::filesystem::path const& path) : mapped_(path, "token file") {
    static_assert(std::endian::native == std::endian::little);
    auto const fail = [&](std::string const& what) { throw error("token file " + path.string() + " " + what); };
    auto const bytes = mapped_.bytes();
    if (bytes.size() < header_bytes) fail("is too short for its header of 1024 bytes; make or fetch it anew");
    std::array<std::int32_t, 3> head{};
    std::memcpy(head.data(), bytes.data(), sizeof head);
    auto const [magic, version, count] = head;
    if (magic != 20240520) {
      fail("does not begin with 20240520, as llm.c's token files do; convert it, or give a text with another ending");
    }
    if (version != 1) {
      fail("is of version " + std::to_string(version) + "; only 1, of 16-bit tokens, is supported");
    }
    if (count < 1) fail("says that it has " + std::to_string(count) + " tokens; make or fetch it anew");
    auto const have = bytes.size() - header_bytes;
    if (have != static_cast<std::size_t>(count) * sizeof(std::uint16_t)) {
      fail("says that it has " + std::to_string(count) + " tokens, and " + std::to_string(have) +
           " bytes of tokens follow; make or fetch it anew");
    }
  }

  [[nodiscard]] auto tokens() const noexcept -> std::span<std::uint16_t const> {
    auto const values = mapped_.bytes().subspan(header_bytes);
    return {reinterpret_cast<std::uint16_t const*>(values.data()), values.size() / sizeof(std::uint16_t)};
  }

 private:
  static constexpr std::size_t header_bytes = 256 * sizeof(std::int32_t);

  safetensors::mapped_file mapped_;
};

}  // namespace pipewright::inline v0::gpt2
