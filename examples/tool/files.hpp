// SPDX-License-Identifier: Apache-2.0
// Reading a file and writing to the standard output, with a sentence where that fails.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include <pipewright/error.hpp>

namespace tool {

namespace pw = pipewright;

inline std::string name_of_file(std::string const& name) { return name == "-" ? "the standard input" : name; }

/// A file's text; "-" is the standard input.
inline std::string read_file(std::string const& name) {
  constexpr std::size_t most = std::size_t{1} << 30;
  auto fail = [&](std::string_view why) {
    return pw::error(fmt::format("cannot read {}: {}", name_of_file(name), why));
  };
  std::error_code ignored;
  if (name != "-" && std::filesystem::is_directory(name, ignored)) throw fail("it is a directory");
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(name == "-" ? stdin : std::fopen(name.c_str(), "rb"),
                                                       name == "-" ? [](std::FILE*) { return 0; } : std::fclose);
  if (!file) throw fail(std::strerror(errno));
  std::string text;
  char part[1 << 16];
  while (std::size_t const n = std::fread(part, 1, sizeof part, file.get())) {
    text.append(part, n);
    if (text.size() > most) throw fail("it is larger than 1 GiB, which neither a schedule nor a profile is");
  }
  if (std::ferror(file.get())) throw fail(std::strerror(errno));
  return text;
}

inline void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

/// Throws where something that was printed did not arrive.
inline void finish_printing() {
  errno = 0;
  if (std::fflush(stdout) != 0 || std::ferror(stdout))
    throw pw::error(fmt::format("cannot write to the standard output: {}", std::strerror(errno != 0 ? errno : EIO)));
}

}  // namespace tool
