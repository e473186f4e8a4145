// SPDX-License-Identifier: Apache-2.0
// A plan as schedule_planner --emit writes it: C++, and in a comment the options of a trainer that runs it.
#pragma once

#include <algorithm>
#include <array>
#include <sstream>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <pipewright/error.hpp>

#include "../tool/files.hpp"
#include "../tool/schedule_names.hpp"
#include "settings.hpp"

namespace trainer {

/// Gives options that were not said what a plan says. Throws where what was said contradicts it, and where the file holds
/// no plan.
inline void take_plan(CLI::App& app, std::string const& file) {
  constexpr std::array planned{"--schedule", "--ranks", "--micro-batches", "--sequences",
                               "--chunks",   "--group", "--balance",       "--recompute"};
  constexpr std::string_view before = "// train_gpt2 ";
  auto const name = tool::name_of_file(file);
  std::istringstream lines(tool::read_file(file));
  std::string line;
  while (std::getline(lines, line) && !line.starts_with(before)) continue;
  if (!line.starts_with(before))
    throw pw::error(
        fmt::format("{} holds no plan, which is a line that begins with '{}'; schedule_planner --emit FILE "
                    "writes one",
                    name, before));
  std::istringstream words(line.substr(before.size()));
  for (std::string option, value; words >> option;) {
    if (std::find(planned.begin(), planned.end(), option) == planned.end())
      throw pw::error(fmt::format("{} says {}, which is nothing that a plan says", name, tool::in_quotes(option)));
    if (!(words >> value)) throw pw::error(fmt::format("{} says no value for {}", name, option));
    auto& given = *app.get_option(option);
    if (given.count() == 0) {
      given.add_result(value);
      given.run_callback();
    } else if (auto const said = detail::words_of(given); !detail::mean_the_same(said, value)) {
      throw pw::error(
          fmt::format("{} {} contradicts {}, which says {}; leave the option out", option, said, name, value));
    }
  }
}

}  // namespace trainer
