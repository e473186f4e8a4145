// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/schedule/notation.hpp>
#include <pipewright/schedule/policy.hpp>
#include <pipewright/schedule/rows.hpp>

/// Schedules as tables, exchanged with PyTorch's pipelining as its CSV: a line a rank, cells separated by commas, a cell
/// one action or one fused pair, an empty cell an idle slot. Both ways, in the compiler and at run time.
namespace pipewright::inline v0 {

/// A schedule as it was read: what its cells say, and nothing that was proven about them.
struct table {
  rows<action> orders;       ///< every rank's actions; idle cells and passed-over tokens are left out
  rows<std::int32_t> cells;  ///< the cell of its line, counted from 0, in which each action stands
};

/// The verdict on a CSV text: the first rule that it breaks, its line and column (bytes), both counted from 1.
struct csv_fault {
  notation_rule broken = notation_rule::none;
  int line = 0;
  int column = 0;
  constexpr bool ok() const { return broken == notation_rule::none; }
  friend constexpr bool operator==(csv_fault const&, csv_fault const&) = default;
};

namespace detail {

/// UNSHARD, RESHARD, REDUCE_GRAD and WAIT...: what a PyTorch table may hold and a plan has no use for.
constexpr bool is_passed_over(std::string_view cell) {
  notation_reader reader(cell);
  int ignored = 0;
  reader.number(max_stages, notation_rule::stage, notation_rule::stage_too_large, ignored);
  auto const word = reader.word();
  if (word == "UNSHARD" || word == "RESHARD" || word == "REDUCE_GRAD")
    return reader.fault.ok() && reader.at == reader.size;
  if (!word.starts_with("WAIT")) return false;
  while (reader.at_digit()) ++reader.at;
  return reader.fault.ok() && reader.at == reader.size;
}

constexpr std::string_view trimmed(std::string_view cell, int& column) {
  while (!cell.empty() && is_blank(cell.front())) {
    cell.remove_prefix(1);
    ++column;
  }
  while (!cell.empty() && is_blank(cell.back())) cell.remove_suffix(1);
  return cell;
}

/// Calls cell(line, column, index, text) for every cell, lines and indices from 0, columns from 1, the text without
/// blanks around it; stops where that returns false.
constexpr void for_each_cell(std::string_view text, auto&& cell) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);  // what some spreadsheets put in front of UTF-8
  for (int line = 0; !text.empty(); ++line) {
    auto const end = text.find('\n');
    auto rest = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    int column = 1;
    for (int index = 0;; ++index) {
      auto const comma = rest.find(',');
      int begin = column;
      auto const content = trimmed(rest.substr(0, comma), begin);
      if (!cell(line, begin, index, content)) return;
      if (comma == rest.npos) break;
      column += static_cast<int>(comma) + 1;
      rest.remove_prefix(comma + 1);
    }
  }
}

}  // namespace detail

/// Reads a CSV text into `into`. PyTorch's UNSHARD, RESHARD, REDUCE_GRAD and wait tokens are passed over; a line
/// without actions is a rank without actions, except at the end. Linear. On a fault `into` is left as it was.
constexpr csv_fault parse_csv(std::string_view text, table& into) {
  csv_fault fault;
  std::size_t total = 0;
  int lines = 0;
  detail::for_each_cell(text, [&](int line, int column, int, std::string_view cell) {
    if (cell.empty() || detail::is_passed_over(cell)) return true;
    auto const found = parse_action(cell, [&](action) { ++total; });
    lines = line + 1;
    if (!found.ok()) fault = {found.broken, line + 1, column + found.column - 1};
    return found.ok();
  });
  if (!fault.ok()) return fault;
  if (lines > max_stages) return {notation_rule::ranks_too_many, max_stages + 1, 1};
  if (total == 0) return {notation_rule::nothing, 1, 1};

  table read{rows<action>(lines, total), rows<std::int32_t>(lines, total)};
  std::size_t next = 0;
  detail::for_each_cell(text, [&](int line, int, int index, std::string_view cell) {
    if (line >= lines) return false;
    if (!cell.empty() && !detail::is_passed_over(cell))
      parse_action(cell, [&](action a) {
        read.orders.items[next] = a;
        read.cells.items[next++] = index;
      });
    read.orders.first[line + 1] = next;
    read.cells.first[line + 1] = next;
    return true;
  });
  into = std::move(read);
  return {};
}

/// Reads a CSV text. Throws pipewright::error naming line, column and what is expected there; in a constant expression
/// a bad text does not compile.
constexpr table parse_csv(std::string_view text) {
  table result;
  auto const fault = parse_csv(text, result);
  if (!fault.ok())
    throw error("line " + std::to_string(fault.line) + ", column " + std::to_string(fault.column) + ": " +
                sentence(fault.broken));
  return result;
}

/// Writes a table as CSV in append(std::string_view) pieces, a line a rank. Linear.
constexpr void write_csv(rows_view<action> orders, auto&& append) {
  for (int r = 0; r < orders.count; ++r) {
    write_actions(orders[r], ",", append);
    append(std::string_view("\n"));
  }
}

/// A table as one CSV text.
inline std::string csv_of(rows_view<action> orders) {
  std::string text;
  write_csv(orders, [&](std::string_view piece) { text += piece; });
  return text;
}

/// Whether a table holds transfers; if not, its sends and receives are derived (`lower`).
constexpr bool has_transfers(rows_view<action> orders) {
  for (std::size_t i = 0; i < orders.total(); ++i)
    if (!is_compute(orders.items[i].what)) return true;
  return false;
}

/// S, the highest stage of a table + 1.
constexpr int stages_of(rows_view<action> orders) {
  int stages = 0;
  for (std::size_t i = 0; i < orders.total(); ++i) stages = std::max(stages, orders.items[i].stage + 1);
  return stages;
}

/// M, the highest micro-batch of a table + 1.
constexpr int micro_batches_of(rows_view<action> orders) {
  int micro_batches = 0;
  for (std::size_t i = 0; i < orders.total(); ++i)
    micro_batches = std::max(micro_batches, orders.items[i].micro_batch + 1);
  return micro_batches;
}

/// What a table asks of a stage's backward: B, or I and W, or neither.
constexpr backward_form backward_of(rows_view<action> orders) {
  backward_form form = backward_form::none;
  for (std::size_t i = 0; i < orders.total(); ++i) {
    kind const k = orders.items[i].what;
    if (k == kind::backward_input || k == kind::backward_weight) return backward_form::split;
    if (k == kind::backward) form = backward_form::full;
  }
  return form;
}

/// The rank of each stage, from where its first action stands; -1 for a stage without any.
constexpr std::vector<int> ranks_of_stages(rows_view<action> orders) {
  std::vector<int> rank_of_stage(static_cast<std::size_t>(stages_of(orders)), -1);
  for (int r = 0; r < orders.count; ++r)
    for (action const a : orders[r])
      if (rank_of_stage[a.stage] < 0) rank_of_stage[a.stage] = r;
  return rank_of_stage;
}

}  // namespace pipewright::inline v0
