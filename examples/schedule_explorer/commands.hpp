// SPDX-License-Identifier: Apache-2.0
// What each command of the explorer does.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <pipewright/plan/check_table.hpp>
#include <pipewright/plan/fault_report.hpp>
#include <pipewright/plan/memory.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/plan/steady.hpp>
#include <pipewright/schedule/csv.hpp>
#include <pipewright/trace/chart.hpp>
#include <pipewright/trace/perfetto.hpp>
#include <pipewright/trace/svg.hpp>
#include <pipewright/trace/timeline.hpp>
#include <pipewright/trace/write_file.hpp>

#include "../tool/files.hpp"
#include "choice.hpp"
#include "costs.hpp"

namespace explorer {

using tool::name_of_file;
using tool::print;
using tool::read_file;

/// The plan of the shape, which ends: a stream for its batches and drained.
template<class Policy> auto ending_plan(pw::shape s) {
  if constexpr (pw::is_stream(Policy::weights)) return pw::make_unrolled_plan<Policy>(s);
  else return pw::make_plan<Policy>(s);
}

// ---- order ---------------------------------------------------------------------------------------------------------
inline void order(choice const& c, bool transfers) {
  with_schedule(c, [&](auto policy, pw::shape s) {
    using schedule = typename decltype(policy)::type;
    auto orders = pw::orders_of<schedule>(s);
    if (transfers) {
      auto const places = pw::placement_of<schedule>(s);
      auto const met = pw::meet(orders.view(), s, places.data(), schedule::backward);
      orders = pw::rendezvous_table(orders.view(), met, s, places.data());
    }
    pw::write_csv(orders.view(), print);
  });
}

// ---- check ---------------------------------------------------------------------------------------------------------
struct check_request {
  std::string file, placement, weights = "sync";
  std::int64_t batches = 1;
};

/// Stage by stage the rank: loop, v, or the ranks themselves.
inline std::vector<int> parse_placement(std::string_view text, pw::rows_view<pw::action> table) {
  std::vector<int> ranks;
  if (text.empty()) return ranks;
  if (text == "loop") {
    for (int s = 0; s < pw::stages_of(table); ++s) ranks.push_back(s % table.count);
    return ranks;
  }
  if (text == "v") {
    for (int s = 0; s < 2 * table.count; ++s) ranks.push_back(s < table.count ? s : 2 * table.count - 1 - s);
    return ranks;
  }
  std::string_view rest = text;
  for (bool more = true; more;) {
    auto const comma = rest.find(',');
    auto const item = rest.substr(0, comma);
    more = comma != rest.npos;
    rest.remove_prefix(more ? comma + 1 : rest.size());
    int rank = 0;
    for (char d : item) rank = d >= '0' && d <= '9' && rank < pw::max_stages ? 10 * rank + (d - '0') : pw::max_stages;
    if (item.empty() || rank >= pw::max_stages || ranks.size() >= static_cast<std::size_t>(pw::max_stages))
      throw pw::error(fmt::format("--placement {}: expected is loop, v, or the rank of every stage as in 0,1,1,0",
                                  in_quotes(text)));
    ranks.push_back(rank);
  }
  return ranks;
}

/// Where in its line a cell begins, in bytes, both counted from 1.
inline std::size_t column_of(std::string_view text, int line, int cell) {
  if (line == 0 && text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  for (; line > 0; --line) text.remove_prefix(text.find('\n') + 1);
  std::size_t at = 0;
  for (; cell > 0; --cell) at = text.find(',', at) + 1;
  return text.find_first_not_of(" \t", at) + 1;
}

/// 0 for a sound table, 1 for a broken one.
inline int check(check_request const& request) {
  std::string const text = read_file(request.file), name = name_of_file(request.file);
  pw::table table;
  if (auto const fault = pw::parse_csv(text, table); !fault.ok())
    throw pw::error(fmt::format("{}, line {}, column {}: {}", name, fault.line, fault.column, sentence(fault.broken)));
  auto const orders = table.orders.view();
  for (int r = 0; r < orders.count; ++r)
    for (int at = 0; at < orders.length(r); ++at)
      if (pw::action const a = orders.begin_of(r)[at]; !pw::belongs_in_table(a.what))
        throw pw::error(fmt::format("{}, line {}, column {}: {}", name, r + 1,
                                    column_of(text, r, table.cells.view()[r][at]), pw::has_no_place(a)));
  pw::table_options options;
  options.weights = request.weights == "sync"    ? pw::weight_rule::synchronous
                    : request.weights == "stash" ? pw::weight_rule::stashing
                    : request.weights == "vsync" ? pw::weight_rule::vertical_sync
                                                 : pw::weight_rule::double_buffered;
  options.batches = static_cast<int>(std::clamp<std::int64_t>(request.batches, 0, pw::max_micro_batches));
  options.rank_of_stage = parse_placement(request.placement, orders);
  auto const found = pw::check_table(orders, options);
  if (found.ok()) {
    print("ok\n");
    return 0;
  }
  int const length = orders.length(found.rank);
  print(pw::fault_line(found, length) + "\n");
  if (found.position < length)
    print(fmt::format("{}, line {}, cell {}\n", name, found.rank + 1,
                      table.cells.view()[found.rank][found.position] + 1));
  print("\n" + pw::fault_grid(orders, found));
  return 1;
}

// ---- simulate ------------------------------------------------------------------------------------------------------
/// The shortest stream whose peaks are those of its steady state: they do not depend on how many micro-batches there are.
template<class Policy> pw::shape settled_shape(pw::shape s) {
  constexpr bool each = Policy::weights != pw::weight_rule::double_buffered;  // micro-batch makes an update
  s.micro_batches = each ? 1 : std::max(1, s.ranks - 1);
  s.batches = each ? 2 * s.ranks + 2 : 5;
  refuse_size(s, "the steady state of this stream");
  return s;
}

template<class Policy, class T> json measure(choice const& c, pw::shape s, pw::costs<T> const& cost) {
  auto const plan = ending_plan<Policy>(s);
  pw::plan_view const p = plan.view();
  auto const times = pw::simulate(p, cost);
  json result;
  result["schedule"] = Policy::name;
  result["ranks"] = s.ranks;
  result["micro_batches"] = s.micro_batches;
  result["chunks"] = s.chunks;
  result["batches"] = s.batches;
  result["makespan"] = number(times.makespan);
  result["ideal"] = number(times.ideal);
  result["bubble_of_makespan"] = number(times.bubble_of_makespan());
  result["bubble_of_ideal"] = number(times.bubble_of_ideal());
  result["bubble_of_longest_rank"] = number(times.bubble_of_longest_rank());
  result["bubble_steady"] = nullptr;
  auto const by_rank = [&](auto&& peak, pw::plan_view const& of) {
    std::vector<int> peaks;
    for (int r = 0; r < s.ranks; ++r) peaks.push_back(peak(of, r));
    return peaks;
  };
  result["in_flight"] = by_rank(pw::peak_in_flight, p);
  if constexpr (pw::is_stream(Policy::weights)) {
    pw::shape one = s;
    one.batches = 1;
    auto const stream = pw::make_plan<Policy>(one);
    result["bubble_steady"] = number(pw::steady_bubble(stream.view(), cost));
    if (c.says_batches) {
      result["weight_versions"] = by_rank(pw::peak_weight_versions, p);
    } else {
      auto const settled = pw::make_unrolled_plan<Policy>(settled_shape<Policy>(s));
      result["weight_versions"] = by_rank(pw::peak_weight_versions, settled.view());
      // One update's micro-batches are a part of 2bw's stream, not its length.
      if constexpr (Policy::weights == pw::weight_rule::double_buffered)
        result["in_flight"] = by_rank(pw::peak_in_flight, settled.view());
    }
    result["weight_buffers"] = std::vector<int>(stream.view().weight_buffers, stream.view().weight_buffers + s.ranks);
  } else {
    result["weight_versions"] = by_rank(pw::peak_weight_versions, p);
    result["weight_buffers"] = std::vector<int>(p.weight_buffers, p.weight_buffers + s.ranks);
  }
  return result;
}

inline void simulate(choice const& c, std::string const& cost_text, bool as_json) {
  auto const cost = parse_costs(cost_text);
  with_schedule(c, [&](auto policy, pw::shape s) {
    using schedule = typename decltype(policy)::type;
    json found;
    try {
      found = measure<schedule>(c, s, cost);
    } catch (pw::error const&) {  // an exact time overflowed; any other error comes again
      found = measure<schedule>(c, s, rounded(cost));
    }
    if (as_json) return print(found.dump(2) + "\n");
    auto share = [&](char const* key) {
      return found[key].is_null() ? std::string("-") : fmt::format("{:.2f} %", 100 * found[key].get<double>());
    };
    auto list = [&](char const* key) { return fmt::format("{}", fmt::join(found[key].get<std::vector<int>>(), " ")); };
    print(fmt::format("{}, {}\n", schedule::name, options_of(s, schedule::name == "interleaved", true)));
    print(fmt::format("  makespan                 {}\n", found["makespan"].dump()));
    print(fmt::format("  ideal                    {}   the work of the rank that has most\n", found["ideal"].dump()));
    print(fmt::format("  bubble of the makespan   {}\n", share("bubble_of_makespan")));
    print(fmt::format("  bubble of the ideal      {}\n", share("bubble_of_ideal")));
    print(fmt::format("  bubble of longest rank   {}\n", share("bubble_of_longest_rank")));
    if (!found["bubble_steady"].is_null())
      print(fmt::format("  bubble, steady state     {}\n", share("bubble_steady")));
    print(
        fmt::format("  in flight, by rank       {}   chunks, until the weight gradient is done\n", list("in_flight")));
    print(fmt::format("  weight versions          {}\n", list("weight_versions")));
    print(fmt::format("  weight buffers           {}\n", list("weight_buffers")));
  });
}

// ---- draw and trace ------------------------------------------------------------------------------------------------
inline pw::trace predicted(choice const& c, std::string const& cost_text) {
  auto const cost = rounded(parse_costs(cost_text));
  pw::trace result;
  with_schedule(c, [&](auto policy, pw::shape s) {
    auto const plan = ending_plan<typename decltype(policy)::type>(s);
    result = pw::trace_of(plan.view(), pw::simulate(plan.view(), cost));
  });
  return result;
}

inline void draw(choice const& c, std::string const& cost_text, std::string const& file) {
  auto const t = predicted(c, cost_text);
  if (!file.empty()) return pw::write_file(file, [&](auto&& append) { pw::write_svg(t, append); });
  bool const terminal = isatty(STDOUT_FILENO) == 1;
  winsize size{};
  if (terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) size.ws_col = 0;
  print(t.title + "\n");
  print(pw::chart(t, {.colour = terminal && std::getenv("NO_COLOR") == nullptr,
                      .versions = t.has_weight_versions,
                      .legend = true,
                      .width = size.ws_col}));
}

inline void write_trace(choice const& c, std::string const& cost_text, std::string const& file) {
  auto const t = predicted(c, cost_text);
  if (file.empty()) return pw::write_perfetto(t, print);
  pw::write_file(file, [&](auto&& append) { pw::write_perfetto(t, append); });
}

}  // namespace explorer
