// SPDX-License-Identifier: Apache-2.0
// What every tool does with what goes wrong.
#pragma once

#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string_view>

#include <fmt/format.h>

namespace tool {

/// A program's exit code: that of run(argc, argv); 2 and one sentence where it throws, `too_large` where memory ran out.
int answer(std::string_view name, std::string_view too_large, auto&& run, int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a write beyond a limit of the file size fails instead, and is told as any other
  auto const say = [&](std::string_view why) {
    if (constexpr std::string_view library = "pipewright: "; why.starts_with(library))
      why.remove_prefix(library.size());
    fmt::print(stderr, "{}: {}\n", name, why);
    return 2;
  };
  try {
    return run(argc, argv);
  } catch (std::bad_alloc const&) {
    return say(too_large);
  } catch (std::exception const& e) {
    return say(e.what());
  }
}

}  // namespace tool
