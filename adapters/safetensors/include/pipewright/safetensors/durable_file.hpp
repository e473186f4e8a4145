// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include <pipewright/error.hpp>

namespace pipewright::inline v0::safetensors {

/// Puts the names in a folder on the disk, where the file system can promise that.
inline void sync_folder(std::filesystem::path const& folder) noexcept {
  if (auto const at = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); at >= 0) {
    ::fsync(at);
    ::close(at);
  }
}

/// Writes a whole file or nothing, even where the machine stops: into a new file in the same folder, which is on the disk
/// before it takes the name. produce(append) calls append(bytes) or append(text) for every piece. A link of that name is
/// replaced, not followed. Throws error where it cannot be written; what stood there before is then still there.
template<class Producer>
requires(!std::convertible_to<Producer, std::string_view>)
void write_durably(std::filesystem::path const& path, Producer&& produce) {
  auto const fail = [&](int why) {
    throw error("cannot write " + path.string() + ": " + std::strerror(why) + "; choose another file or folder");
  };
  auto const folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  auto partial = path;
  partial += ".part-" + std::to_string(std::random_device{}());

  auto file = ::open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) fail(errno);
  auto const write_all = [&](char const* data, std::size_t size) {
    while (size > 0) {
      auto const written = ::write(file, data, size);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail(errno);
      data += written;
      size -= static_cast<std::size_t>(written);
    }
  };
  struct appender {
    decltype(write_all) const& all;
    void operator()(std::string_view text) const { all(text.data(), text.size()); }
    void operator()(std::span<std::byte const> bytes) const {
      all(reinterpret_cast<char const*>(bytes.data()), bytes.size());
    }
  };
  try {
    produce(appender{write_all});
    if (::fsync(file) != 0) fail(errno);
    auto const closed = ::close(file);
    file = -1;
    if (closed != 0) fail(errno);
    if (::rename(partial.c_str(), path.c_str()) != 0) fail(errno);
  } catch (...) {
    if (file >= 0) ::close(file);
    ::unlink(partial.c_str());
    throw;
  }
  sync_folder(folder);  // the new name, too, is to outlive a power cut
}

/// The same for a text that stands in memory.
inline void write_durably(std::filesystem::path const& path, std::string_view text) {
  write_durably(path, [&](auto&& append) { append(text); });
}

}  // namespace pipewright::inline v0::safetensors
