// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/trace/text.hpp>
#include <pipewright/trace/timeline.hpp>

namespace pipewright::inline v0 {

namespace detail {

/// A trace drawn: a lane a rank, time to the right.
class svg_picture {
 public:
  static constexpr std::size_t most_actions = 200'000;  // some 60 MB; no viewer opens more

  explicit svg_picture(trace const& t) : trace_{t}, totals_{totals_of(t)} {
    if (t.actions.size() > most_actions)
      throw error("a picture holds at most " + std::to_string(most_actions) + " actions and this trace has " +
                  std::to_string(t.actions.size()) + ": draw fewer ranks, micro-batches or batches");
    std::vector<int> held(static_cast<std::size_t>(t.ranks));
    for (int const rank : t.rank_of_stage) chunk_.push_back(held[rank]++);
    lane_ = t.has_weight_versions ? 40 : 32;
    // wide enough for the numbers in the shortest actions, within what a screen can scroll
    double shortest = 0;
    std::vector<double> lengths;
    for (auto const& a : t.actions)
      if (is_compute(a.ran.what.what) && a.end > a.begin) lengths.push_back(a.end - a.begin);
    if (!lengths.empty()) {
      auto const tenth = lengths.begin() + static_cast<std::ptrdiff_t>(lengths.size() / 10);
      std::nth_element(lengths.begin(), tenth, lengths.end());
      shortest = *tenth;
    }
    double const many = shortest > 0 ? totals_.length() / shortest : 0;
    width_ = std::clamp(std::max(std::min(26 * many, 1600.0), 21 * many), 640.0, 6000.0);
    scale_ = totals_.length() > 0 ? width_ / totals_.length() : 1;
    if (t.unit == time_unit::seconds) unit_scale_ = totals_.length() < 1 ? 1e3 : 1;
  }

  void write(auto&& append) const {
    double const height = top_ + trace_.ranks * (lane_ + gap_) + 108, full = left_ + width_ + right_;
    append("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + px(full) + "\" height=\"" + px(height) +
           "\" viewBox=\"0 0 " + px(full) + " " + px(height) +
           "\" font-family=\"Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif\" role=\"img\">\n" + "<title>" +
           trace_text::xml(trace_.title) + "</title>\n" + style() +
           "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
    append(text(24, 34, "h", trace_.title) + text(24, 54, "s", subtitle()));
    axis(append);
    for (int r = 0; r < trace_.ranks; ++r) lane(append, r);
    for (auto const& a : trace_.actions)
      if (is_compute(a.ran.what.what)) box(append, a);
    for (auto const& a : trace_.actions)
      if (a.ran.what.what == kind::update) update_mark(append, a);
    legend(append, height - 46);
    append(std::string_view("</svg>\n"));
  }

 private:
  static std::string px(double v) { return trace_text::number(v, 2); }
  double x(double time) const { return left_ + (time - totals_.begin) * scale_; }
  double y(int rank) const { return top_ + rank * (lane_ + gap_); }
  double bottom() const { return y(trace_.ranks) - gap_; }

  static std::string text(double x, double y, std::string_view style, std::string_view words) {
    return "<text x=\"" + px(x) + "\" y=\"" + px(y) + "\" class=\"" + std::string(style) + "\">" +
           trace_text::xml(words) + "</text>\n";
  }

  static std::string style() {
    return "<style>text{fill:#1f2733}.h{font-size:18px;font-weight:600}.s{font-size:13px;fill:#5b6675}.r{font-size:"
           "13px;font-weight:600;"
           "text-anchor:end}.i{font-size:11px;fill:#5b6675}.n{font-size:12px;font-weight:600;text-anchor:middle}.v{"
           "font-size:9.5px;"
           "text-anchor:middle;fill:#37414f}.a{font-size:11px;fill:#5b6675;text-anchor:middle}.l{font-size:12px}"
           "</style>\n<defs><pattern id=\"idle\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" "
           "patternTransform=\"rotate(45)\">"
           "<rect width=\"7\" height=\"7\" fill=\"#f2f3f5\"/><rect width=\"1.6\" height=\"7\" "
           "fill=\"#d5d9df\"/></pattern></defs>\n";
  }

  std::string time_text(double t) const {
    double const shown = t * unit_scale_;
    return trace_text::number(shown, trace_.unit == time_unit::seconds ? 2 : 3) +
           (trace_.unit == time_unit::seconds ? unit_scale_ > 1 ? " ms" : " s" : "");
  }

  std::string subtitle() const {
    return std::string(trace_.unit == time_unit::seconds ? "measured" : "predicted") + ": " +
           time_text(totals_.length()) + (trace_.unit == time_unit::seconds ? "" : " units of time") +
           " from first to last action, ranks idle " + trace_text::percent(totals_.idle()) + " of it";
  }

  /// A round step of time, some 70 pixels or more.
  double tick() const {
    double const least = 70 / scale_ * unit_scale_;
    double step = std::pow(10, std::floor(std::log10(std::max(least, 1e-12))));
    for (double const factor : {1.0, 2.0, 5.0, 10.0})
      if (step * factor >= least) return step * factor / unit_scale_;
    return step * 10 / unit_scale_;
  }

  void axis(auto&& append) const {
    double const step = tick();
    for (int i = 0; i * step <= totals_.length() * (1 + 1e-9); ++i) {
      std::string const at = px(left_ + i * step * scale_);
      append("<line x1=\"" + at + "\" y1=\"" + px(top_ - 6) + "\" x2=\"" + at + "\" y2=\"" + px(bottom() + 6) +
             "\" stroke=\"#e3e6ea\"/>\n" +
             text(left_ + i * step * scale_, bottom() + 20, "a", trace_text::number(i * step * unit_scale_)));
    }
    append(
        text(left_ + width_ / 2, bottom() + 36, "a",
             trace_.unit == time_unit::seconds ? unit_scale_ > 1 ? "time (ms)" : "time (s)" : "time (units of cost)"));
  }

  void lane(auto&& append, int r) const {
    double const middle = y(r) + lane_ / 2;
    append(text(left_ - 12, middle + 4.5, "r", "rank " + std::to_string(r)) + "<rect x=\"" + px(left_) + "\" y=\"" +
           px(y(r)) + "\" width=\"" + px(width_) + "\" height=\"" + px(lane_) + "\" fill=\"url(#idle)\"/>\n" +
           text(left_ + width_ + 12, middle - 2.5, "i", "idle " + trace_text::percent(totals_.idle(r))) +
           text(left_ + width_ + 12, middle + 11.5, "i", "in flight " + std::to_string(totals_.in_flight[r])));
  }

  struct colour {
    int red, green, blue;
  };
  static colour colour_of(kind k) {
    switch (k) {
      case kind::forward: return {104, 166, 232};
      case kind::backward: return {245, 158, 76};
      case kind::backward_input: return {247, 196, 88};
      case kind::backward_weight: return {122, 196, 133};
      default: return {186, 171, 224};
    }
  }
  /// Later chunks are paler.
  std::string fill(kind k, int chunk) const {
    double const pale = trace_.chunks > 1 ? 0.66 * std::min(chunk, trace_.chunks - 1) / (trace_.chunks - 1) : 0;
    auto mix = [&](int c) { return std::to_string(static_cast<int>(std::lround(c + (255 - c) * pale))); };
    auto const c = colour_of(k);
    return "rgb(" + mix(c.red) + "," + mix(c.green) + "," + mix(c.blue) + ")";
  }
  std::string hover(timed_action const& a) const {
    return "<title>" + std::string(trace_text::words(a.ran.what.what)) + " of micro-batch " +
           std::to_string(a.ran.what.micro_batch) + ", stage " + std::to_string(a.ran.what.stage) + ", rank " +
           std::to_string(a.rank) + (trace_.has_weight_versions ? ", weights v" + std::to_string(a.ran.version) : "") +
           ": " + time_text(a.begin - totals_.begin) + " to " + time_text(a.end - totals_.begin) + "</title>";
  }

  void box(auto&& append, timed_action const& a) const {
    double const from = x(a.begin), wide = std::max((a.end - a.begin) * scale_, 0.4), middle = from + wide / 2;
    double const edge = wide > 6 ? 0.5 : 0;  // neighbours stay apart
    append("<g>" + hover(a) + "<rect x=\"" + px(from + edge) + "\" y=\"" + px(y(a.rank)) + "\" width=\"" +
           px(wide - 2 * edge) + "\" height=\"" + px(lane_) + "\" rx=\"" + (wide > 10 ? "3" : "0") + "\" fill=\"" +
           fill(a.ran.what.what, a.ran.what.stage < chunk_.size() ? chunk_[a.ran.what.stage] : 0) + "\"/>");
    auto const number = std::to_string(a.ran.what.micro_batch);
    if (wide >= 7.5 * static_cast<double>(number.size()) + 3) {
      append(text(middle, y(a.rank) + (trace_.has_weight_versions ? 18 : lane_ / 2 + 4.3), "n", number));
      auto const version = std::string("v").append(std::to_string(a.ran.version));
      if (trace_.has_weight_versions && wide >= 5.8 * static_cast<double>(version.size()) + 3)
        append(text(middle, y(a.rank) + 32.5, "v", version));
    }
    append(std::string_view("</g>\n"));
  }

  /// A triangle below the lane where an update ends, and what time it took, if any.
  void update_mark(auto&& append, timed_action const& a) const {
    append("<g>" + hover(a) + "<path d=\"M" + px(x(a.end)) + " " + px(y(a.rank) + lane_ + 1) + "l-4 " + px(gap_ - 3) +
           "h8z\" fill=\"#3b4350\"/>");
    if (double const wide = (a.end - a.begin) * scale_; wide > 0.3)
      append("<rect x=\"" + px(x(a.begin)) + "\" y=\"" + px(y(a.rank)) + "\" width=\"" + px(wide) + "\" height=\"" +
             px(lane_) + "\" fill=\"#8a94a3\"/>");
    append(std::string_view("</g>\n"));
  }

  void legend(auto&& append, double base) const {
    double at = left_;
    auto entry = [&](std::string const& swatch, std::string_view words) {
      append("<g transform=\"translate(" + px(at) + " " + px(base) + ")\">" + swatch + text(24, 4, "l", words) +
             "</g>\n");
      at += 24 + 6.6 * static_cast<double>(words.size()) + 22;
    };
    auto swatch = [](std::string const& paint) {
      return "<rect y=\"-7\" width=\"18\" height=\"14\" rx=\"3\" fill=\"" + paint + "\"/>";
    };
    std::array<bool, 256> used{};
    for (auto const& a : trace_.actions) used[static_cast<int>(a.ran.what.what)] = true;
    for (int k = 0; k <= static_cast<int>(kind::recompute); ++k) {
      if (!used[k]) continue;
      auto const what = static_cast<kind>(k);
      std::string paint;
      for (int c = 0; c < trace_.chunks && c < 4; ++c)
        paint += "<rect x=\"" + px(18.0 * c / std::min(trace_.chunks, 4)) + "\" y=\"-7\" width=\"" +
                 px(18.0 / std::min(trace_.chunks, 4)) + "\" height=\"14\" fill=\"" +
                 fill(what, trace_.chunks > 1 ? c * (trace_.chunks - 1) / (std::min(trace_.chunks, 4) - 1) : 0) +
                 "\"/>";
      entry(paint, std::string(name_of(what)) + " " + std::string(trace_text::words(what)));
    }
    entry(swatch("url(#idle)"), "idle (bubble)");
    if (used[static_cast<int>(kind::update)]) entry("<path d=\"M9 -6l-5 11h10z\" fill=\"#3b4350\"/>", "weight update");
    std::string notes = "number: micro-batch";
    if (trace_.has_weight_versions) notes += "; v: weight version that is read";
    if (trace_.chunks > 1) notes += "; paler: later chunk of the rank";
    append(text(left_, base + 26, "i", notes + "; in flight: forwards whose backward is still to come, at most"));
  }

  trace const& trace_;
  trace_totals totals_;
  std::vector<int> chunk_;  // by stage: the how-manieth of its rank it is
  double lane_ = 32, gap_ = 10, top_ = 84, left_ = 84, right_ = 110;
  double width_ = 0, scale_ = 1, unit_scale_ = 1;
};

}  // namespace detail

/// A trace as an SVG picture in append(std::string_view) pieces: a lane a rank, time to the right, actions coloured by
/// kind with their micro-batch (and the weight version they read), bubbles hatched, updates marked; hovering names each
/// action. Throws pipewright::error above 200000 actions. Linear.
void write_svg(trace const& t, auto&& append) { detail::svg_picture(t).write(append); }

/// The same as one text.
inline std::string svg_of(trace const& t) {
  std::string text;
  write_svg(t, [&](std::string_view piece) { text += piece; });
  return text;
}

}  // namespace pipewright::inline v0
