// SPDX-License-Identifier: Apache-2.0
#pragma once
// A tool run as people do, and what it printed, wrote and returned.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include <sys/wait.h>
#include <unistd.h>

namespace support {

/// A directory of this process's own, which goes away with it.
inline std::filesystem::path const& scratch_directory() {
  struct scratch {
    std::filesystem::path path =
        std::filesystem::temp_directory_path() / ("pipewright-test-" + std::to_string(getpid()));
    scratch() { std::filesystem::create_directories(path); }
    ~scratch() { std::filesystem::remove_all(path); }
  };
  static scratch const here;
  return here.path;
}

/// A whole file; empty where there is none.
inline std::string content(std::filesystem::path const& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// A file of that name in the directory.
inline std::filesystem::path file_with(std::string const& name, std::string_view text) {
  auto const path = scratch_directory() / name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

struct outcome {
  int code;  // 128 + n for a signal
  std::string out, err;
};

/// A command of the shell.
inline outcome run(std::string const& command) {
  auto const out = scratch_directory() / "out", err = scratch_directory() / "err";
  int const status = std::system((command + " > '" + out.string() + "' 2> '" + err.string() + "'").c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), content(out), content(err)};
}
/// One of ours.
inline outcome run_tool(std::string const& name, std::string const& arguments) {
  return run("'" PIPEWRIGHT_TOOLS_DIR "/" + name + "' " + arguments);
}

}  // namespace support
