// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pipewright/error.hpp>

namespace pipewright::inline v0::safetensors {

/// A file's bytes, mapped read-only: opening costs nothing, and a page is read when it is looked at. As with every mapping,
/// nobody may cut the file short meanwhile; replacing it by another of the same name is harmless.
class mapped_file {
 public:
  /// `kind` says in a sentence what the file should be ("safetensors file"). Throws error where it cannot be read.
  mapped_file(std::filesystem::path const& path, std::string_view kind) {
    auto const fail = [&](std::string const& why) {
      throw error(std::string(kind) + " " + path.string() + " cannot be opened: " + why + "; check the path");
    };
    auto const file = descriptor{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.number < 0) fail(std::strerror(errno));
    struct stat about;
    if (::fstat(file.number, &about) != 0) fail(std::strerror(errno));
    if (!S_ISREG(about.st_mode)) fail(S_ISDIR(about.st_mode) ? "it is a folder" : "it is not a regular file");
    size_ = static_cast<std::size_t>(about.st_size);
    if (size_ == 0) return;
    auto* const where = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number, 0);
    if (where == MAP_FAILED) fail(std::strerror(errno));
    data_ = static_cast<std::byte const*>(where);
  }
  mapped_file(mapped_file&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  auto operator=(mapped_file other) noexcept -> mapped_file& {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~mapped_file() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  }

  [[nodiscard]] auto bytes() const noexcept -> std::span<std::byte const> { return {data_, size_}; }
  [[nodiscard]] auto text() const noexcept -> std::string_view { return {reinterpret_cast<char const*>(data_), size_}; }

 private:
  struct descriptor {
    int number;
    explicit descriptor(int n) : number(n) {}
    descriptor(descriptor const&) = delete;
    ~descriptor() {
      if (number >= 0) ::close(number);
    }
  };

  std::byte const* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace pipewright::inline v0::safetensors
