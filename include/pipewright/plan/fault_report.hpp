// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include <pipewright/plan/verdict.hpp>
#include <pipewright/schedule/notation.hpp>
#include <pipewright/schedule/rows.hpp>

namespace pipewright::inline v0 {

/// The rule in a word, as rule and command line name it.
constexpr std::string_view name_of(rule r) {
  switch (r) {
    case rule::none: return "none";
    case rule::complete: return "complete";
    case rule::feasible: return "feasible";
    case rule::channels: return "channels";
    case rule::deadlock: return "deadlock";
    case rule::memory: return "memory";
    case rule::weights: return "weights";
    case rule::placement: return "placement";
  }
  return "";
}

/// A fault in one line: rule, rank, position, action. `length` is that of the rank's row, to tell what is missing.
inline std::string fault_line(verdict const& v, int length) {
  std::string const at(action_text(v.at).view());
  return "rule " + std::string(name_of(v.broken)) + ", rank " + std::to_string(v.rank) + ", position " +
         std::to_string(v.position) +
         (v.position >= length ? " (the end of the row), action " + at + " is missing" : ", action " + at) + ": " +
         sentence(v.broken);
}

/// The part of a table around a fault, a line a rank, columns by position, with an arrow at the fault. At most `width`
/// characters a line (but one column at least) and nine ranks.
inline std::string fault_grid(rows_view<action> table, verdict const& v, int width = 118) {
  if (v.rank < 0 || v.rank >= table.count) return "";
  int const first_rank = std::max(0, std::min(v.rank - 4, table.count - 9)),
            last_rank = std::min(table.count, first_rank + 9);
  auto cell = [&](int r, int at) { return at < table.length(r) ? std::string(action_text(table[r][at]).view()) : ""; };

  int cell_width = static_cast<int>(action_text(v.at).view().size());
  for (int r = first_rank; r < last_rank; ++r)
    for (int at = std::max(0, v.position - 8); at < v.position + 8; ++at)
      cell_width = std::max(cell_width, static_cast<int>(cell(r, at).size()));
  int const prefix = 8 + static_cast<int>(std::to_string(table.count - 1).size());
  int const columns = std::clamp((width - prefix - 8) / (cell_width + 1), 1, 16);
  int const from = std::max(0, v.position - columns / 2), to = from + columns;

  std::string text;
  auto padded = [](std::string s, int n) {
    return s.append(static_cast<std::size_t>(std::max(0, n - static_cast<int>(s.size()))), ' ');
  };
  auto trim = [&] { text.erase(text.find_last_not_of(' ') + 1); };
  for (int r = first_rank; r < last_rank; ++r) {
    text += padded("rank " + std::to_string(r), prefix - 2) + "| " + (from == 0 ? "" : "... ");
    for (int at = from; at < to; ++at) text += padded(cell(r, at), cell_width) + ' ';
    if (table.length(r) > to) text += "...";
    trim();
    text += '\n';
    if (r != v.rank) continue;
    text +=
        std::string(static_cast<std::size_t>(prefix - 2), ' ') + "| " + (from == 0 ? "" : "    ") +
        std::string(static_cast<std::size_t>((v.position - from) * (cell_width + 1)), ' ') +
        std::string(std::max<std::size_t>(1, cell(r, v.position).size()), '^') +
        (v.position >= table.length(r) ? std::string(" ").append(action_text(v.at).view()) + " is missing" : " here") +
        '\n';
  }
  return text;
}

}  // namespace pipewright::inline v0
