// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <concepts>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <system_error>

#include <pipewright/error.hpp>

namespace pipewright::inline v0 {

/// Writes a whole file or nothing: into a new file beside it, which then takes its name. produce(append) calls
/// append(std::string_view) for every piece. A device or a pipe is written as it stands. Throws pipewright::error where
/// the file cannot be written; what stood there before is then still there.
template<class Producer>
requires(!std::convertible_to<Producer, std::string_view>)
void write_file(std::filesystem::path const& path, Producer&& produce) {
  namespace fs = std::filesystem;
  auto fail = [&](std::string const& why) {
    throw error("cannot write " + path.string() + ": " + why + "; choose another file or directory");
  };
  auto last_error = [] { return std::string(std::strerror(errno != 0 ? errno : EIO)); };

  std::error_code code;
  auto const status = fs::status(path, code);
  if (path.empty()) fail("the name is empty");
  if (fs::is_directory(status)) fail("it is a directory");
  bool const whole = !fs::exists(status) || fs::is_regular_file(status);

  fs::path target = path;
  if (fs::is_symlink(fs::symlink_status(path, code))) {  // write what the link names, and keep the link
    target = fs::weakly_canonical(path, code);
    if (code) fail(code.message());
  }
  fs::path written = target;
  if (whole) {
    if (fs::exists(status) &&
        !std::unique_ptr<std::FILE, int (*)(std::FILE*)>(std::fopen(target.c_str(), "r+b"), std::fclose))
      fail(last_error());
    written += ".part-" + std::to_string(std::random_device{}());
  }

  errno = 0;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(written.c_str(), whole ? "wbx" : "wb"), std::fclose);
  if (!file) fail(last_error());
  auto abandon = [&] {
    std::error_code ignored;
    file.reset();
    if (whole) fs::remove(written, ignored);
  };
  try {
    produce([&](std::string_view piece) {
      if (std::fwrite(piece.data(), 1, piece.size(), file.get()) != piece.size()) fail(last_error());
    });
    if (std::fclose(file.release()) != 0) fail(last_error());
    if (whole) fs::rename(written, target, code);
    if (code) fail(code.message());
  } catch (...) {
    abandon();
    throw;
  }
}

/// The same for a text that stands in memory.
inline void write_file(std::filesystem::path const& path, std::string_view text) {
  write_file(path, [&](auto&& append) { append(text); });
}

}  // namespace pipewright::inline v0
