// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <pipewright/trace/text.hpp>
#include <pipewright/trace/timeline.hpp>

namespace pipewright::inline v0 {

/// How a chart in text looks.
struct chart_options {
  bool colour = false;    ///< ANSI colours, for terminals
  bool versions = false;  ///< a second line a rank: the weight versions that its actions read
  bool legend = false;    ///< what letters and colours mean, below
  int width = 0;          ///< break into panels of at most so many characters; 0 never does
};

namespace detail {

/// A trace on a lattice of equal time columns. (A template, as what calls it, so that nobody compiles it who draws nothing.)
template<std::same_as<trace> Trace> class text_chart {
 public:
  text_chart(Trace const& t, chart_options options) : trace_{t}, options_{options}, totals_{totals_of(t)} {
    choose_column();
    place();
    fit_width();
  }

  std::string text() const {
    std::string result;
    int const prefix = rank_digits() + 8,
              per_panel = options_.width > 0 ? std::max(1, (options_.width - prefix) / (width_ + 1)) : columns_;
    for (int from = 0; from < std::max(columns_, 1); from += std::max(per_panel, 1)) {
      int const to = std::min(columns_, from + std::max(per_panel, 1));
      if (from > 0) result += '\n';
      for (int r = 0; r < trace_.ranks; ++r) {
        std::string const number = std::to_string(r);
        result += "rank " + std::string(static_cast<std::size_t>(rank_digits()) - number.size(), ' ') + number + " |";
        line(result, r, from, to, false);
        if (to == columns_) summary(result, r);
        result += '\n';
        if (!options_.versions) continue;
        result += std::string(static_cast<std::size_t>(prefix) - 2, ' ') + '|';
        line(result, r, from, to, true);
        while (result.back() == ' ') result.pop_back();
        result += '\n';
      }
    }
    if (options_.legend) legend(result);
    return result;
  }

 private:
  struct cell {
    int begin, end;  // columns
    instruction ran;
  };

  int rank_digits() const { return static_cast<int>(std::to_string(std::max(trace_.ranks - 1, 0)).size()); }

  /// The length of time that one column stands for: the largest of which all begins and ends are multiples, or the
  /// shortest action where there is none worth drawing.
  void choose_column() {
    double const length = totals_.length();
    double step = 0, shortest = length;
    std::size_t count = 0;
    for (auto const& a : trace_.actions) {
      if (!is_compute(a.ran.what.what) || a.end <= a.begin) continue;
      ++count;
      shortest = std::min(shortest, a.end - a.begin);
      for (double x : {a.begin - totals_.begin, a.end - totals_.begin}) {
        double y = step;
        while (x > 1e-6 * length) {
          double const rest = std::fmod(y, x);
          y = x;
          x = std::min(rest, y - rest) < 1e-6 * length ? 0 : rest;
        }
        step = y;
      }
    }
    // a column for every few actions is worth it; a finer lattice is not read by anyone
    bool const fine = step > 0 && length / step <= 4.0 * static_cast<double>(count) / std::max(trace_.ranks, 1) + 12;
    column_ = fine ? step : shortest;
    if (!(column_ > 0)) column_ = 1;
  }

  void place() {
    rows_.resize(static_cast<std::size_t>(trace_.ranks));
    for (auto const& a : trace_.actions) {
      if (!is_compute(a.ran.what.what)) continue;
      auto& row = rows_[a.rank];
      auto at = [&](double time) { return static_cast<int>(std::lround((time - totals_.begin) / column_)); };
      int const begin = std::max(at(a.begin), row.empty() ? 0 : row.back().end);
      row.push_back({begin, std::max(begin + 1, at(a.end)), a.ran});
      columns_ = std::max(columns_, row.back().end);
    }
  }

  std::string label(instruction i) const {
    return (trace_.chunks > 1 ? std::to_string(i.what.stage) : "") + std::string(name_of(i.what.what)) +
           std::to_string(i.what.micro_batch);
  }

  void fit_width() {
    for (auto const& row : rows_)
      for (cell const& c : row) {
        int const length = static_cast<int>(
            std::max(label(c.ran).size(), options_.versions ? std::to_string(c.ran.version).size() + 1 : 0));
        int const n = c.end - c.begin;
        width_ = std::max(width_, (length + 1 + n - 1) / n - 1);
      }
  }

  static std::string_view colour_of(kind k) {
    switch (k) {
      case kind::forward: return "\033[48;5;117;30m";
      case kind::backward: return "\033[48;5;215;30m";
      case kind::backward_input: return "\033[48;5;222;30m";
      case kind::backward_weight: return "\033[48;5;114;30m";
      default: return "\033[48;5;189;30m";
    }
  }

  void line(std::string& out, int rank, int from, int to, bool versions) const {
    auto const& row = rows_[rank];
    auto c = std::partition_point(row.begin(), row.end(), [&](cell const& x) { return x.end <= from; });
    for (int at = from; at < to;) {
      out += ' ';
      bool const idle = c == row.end() || c->begin > at;
      if (idle) {
        std::string const dots(static_cast<std::size_t>(width_), versions ? ' ' : '.');
        out += options_.colour && !versions ? "\033[2m" + dots + "\033[0m" : dots;
        ++at;
        continue;
      }
      int const end = std::min(c->end, to);
      std::size_t const room = static_cast<std::size_t>((end - at) * (width_ + 1) - 1);
      std::string text = versions ? std::string("v").append(std::to_string(c->ran.version)) : label(c->ran);
      if (c->begin < at) text.clear();  // it began in the panel before
      text.resize(std::max(room, text.size()), versions || options_.colour || (c->end - c->begin == 1) ? ' ' : '-');
      text.resize(room);
      out += options_.colour && !versions ? std::string(colour_of(c->ran.what.what)) + text + "\033[0m" : text;
      at = end;
      if (at == c->end) ++c;
    }
  }

  void summary(std::string& out, int rank) const {
    auto const r = static_cast<std::size_t>(rank);
    bool const seconds = trace_.unit == time_unit::seconds;
    auto time = [&](double t) { return seconds ? trace_text::number(1e3 * t, 2) + " ms" : trace_text::number(t); };
    out += " | bubble " + time(totals_.length() - totals_.busy[r]) + " of " + time(totals_.length()) + ", in flight " +
           std::to_string(totals_.in_flight[r]);
  }

  void legend(std::string& out) const {
    std::array<bool, 5> used{};
    for (auto const& row : rows_)
      for (cell const& c : row) used[static_cast<int>(c.ran.what.what)] = true;
    out += '\n';
    for (int k = 0; k < 5; ++k) {
      if (!used[k]) continue;
      auto const what = static_cast<kind>(k);
      auto const name = std::string(name_of(what));
      out += (options_.colour ? std::string(colour_of(what)) + " " + name + " \033[0m " : name + " ") +
             std::string(trace_text::words(what)) + "   ";
    }
    out += ".. idle (bubble)";
    if (trace_.chunks > 1) out += "   1F0 stage 1, forward, micro-batch 0";
    else out += "   F0 micro-batch 0";
    if (options_.versions) out += "   v0 weight version read";
    out += "\n";
  }

  Trace const& trace_;
  chart_options options_;
  trace_totals totals_;
  std::vector<std::vector<cell>> rows_;
  double column_ = 1;
  int columns_ = 0;
  int width_ = 1;
};

}  // namespace detail

/// A trace as text, a line a rank, time to the right; an action longer than a column is drawn out with dashes, idle
/// columns are dots; at the end of the line what the rank is idle and holds in flight.
template<std::same_as<trace> Trace> std::string chart(Trace const& t, chart_options options = {}) {
  return detail::text_chart(t, options).text();
}

}  // namespace pipewright::inline v0
