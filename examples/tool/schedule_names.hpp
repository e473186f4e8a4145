// SPDX-License-Identifier: Apache-2.0
// The schedules' names, and what is said to those who write another.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <pipewright/error.hpp>
#include <pipewright/schedule/named.hpp>

namespace tool {

namespace pw = pipewright;

inline std::vector<std::string_view> schedule_names() {
  std::vector<std::string_view> names;
  pw::for_each_schedule(pw::all_schedules{}, [&](auto policy) { names.push_back(decltype(policy)::type::name); });
  return names;
}

/// Letters to insert, drop or replace on the way from one word to the other.
inline std::size_t edits_between(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t const replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

/// Foreign text for a message: printable, and not too long.
inline std::string in_quotes(std::string_view text) {
  std::string result = "'";
  for (char c : text.substr(0, 40)) result += c >= ' ' && c <= '~' ? c : '?';
  return result + (text.size() > 40 ? "...'" : "'");
}

[[noreturn]] inline void refuse_name(std::string const& name) {
  auto const names = schedule_names();
  auto const nearest = *std::min_element(
      names.begin(), names.end(), [&](auto a, auto b) { return edits_between(name, a) < edits_between(name, b); });
  throw pw::error(fmt::format("there is no schedule {}{}; the schedules are {}", in_quotes(name),
                              edits_between(name, nearest) <= 3 ? fmt::format(", did you mean '{}'?", nearest) : "",
                              fmt::join(names, ", ")));
}

}  // namespace tool
