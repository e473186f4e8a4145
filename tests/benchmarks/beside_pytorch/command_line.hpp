// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the programs of this folder share: arguments `--name value`, and a line of JSON for what a rank has measured.

#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include <pipewright/error.hpp>

namespace benchmarks {

/// `--name value --name value ...`
class command_line {
 public:
  command_line(int argc, char** argv) {
    for (int i = 1; i < argc; i += 2) {
      std::string_view const name = argv[i];
      if (!name.starts_with("--") || i + 1 == argc)
        throw pipewright::error("expected --name value, not " + std::string(name));
      values_[std::string(name.substr(2))] = argv[i + 1];
    }
  }
  bool has(std::string const& name) const { return values_.contains(name); }
  std::string const& text(std::string const& name) const {
    auto const found = values_.find(name);
    if (found == values_.end()) throw pipewright::error("--" + name + " is missing");
    return found->second;
  }
  int number(std::string const& name) const {
    auto const& from = text(name);
    int value = 0;
    auto const read = std::from_chars(from.data(), from.data() + from.size(), value);
    if (read.ec != std::errc() || read.ptr != from.data() + from.size())
      throw pipewright::error("--" + name + " " + from + " is no number");
    return value;
  }

 private:
  std::map<std::string, std::string> values_;
};

/// A line of /proc/self/status, in KiB: VmHWM is the most memory that the process has had, VmRSS what it has now.
inline long kib_of(std::string const& what) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == what + ":") {
      long value = 0;
      status >> value;
      return value;
    }
  throw pipewright::error("/proc/self/status does not tell " + what);
}

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline std::string json(std::span<double const> numbers) {
  std::string text = "[";
  for (double const each : numbers) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.7g", each);
    if (text.size() > 1) text += ',';
    text += digits;
  }
  return text + "]";
}

}  // namespace benchmarks
