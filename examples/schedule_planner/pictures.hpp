// SPDX-License-Identifier: Apache-2.0
// The best plans as timelines, and what each rank of them holds as bars.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <pipewright/plan/steady.hpp>
#include <pipewright/trace/svg.hpp>
#include <pipewright/trace/text.hpp>
#include <pipewright/trace/write_file.hpp>

#include "report.hpp"

namespace planner {

/// A step of a candidate in simulated time; of a stream a few, until it has drained.
inline pw::trace timeline_of(pw::plan_candidate const& c, answer const& a) {
  auto const profile = pw::scaled(a.of.profile, c.samples);
  pw::shape facts = c.facts;
  pw::needs const wants{.recompute = c.recompute};
  auto plan = pw::make_plan(c.schedule, facts, wants);
  if (pw::plan_view(plan).is_stream()) {
    facts.batches = std::max(2, (2 * facts.ranks + facts.micro_batches - 1) / facts.micro_batches);
    plan = pw::make_unrolled_plan(c.schedule, facts, wants);
  }
  auto t = pw::trace_of(plan, pw::simulate(plan, pw::costs_of(plan, profile, c.sizes, a.on)));
  t.unit = pw::time_unit::seconds;
  return t;
}

/// Bars of each rank's bytes by category, a group of bars for each candidate, and the limit as a line.
inline std::string memory_chart(std::vector<pw::plan_candidate const*> const& best, answer const& a) {
  struct category {
    char const* name;
    char const* colour;
    double pw::rank_memory::* bytes;
  };
  constexpr category categories[]{{"weights", "#4c72b0", &pw::rank_memory::weights},
                                  {"gradients", "#55a868", &pw::rank_memory::gradients},
                                  {"optimizer", "#8172b2", &pw::rank_memory::optimizer},
                                  {"activations", "#dd8452", &pw::rank_memory::activations},
                                  {"boundaries", "#937860", &pw::rank_memory::boundaries},
                                  {"workspace", "#c9b8a8", &pw::rank_memory::workspace}};
  double most = std::isfinite(a.on.memory) ? a.on.memory : 0;
  for (auto const* c : best) most = std::max(most, c->most_memory());
  constexpr double left = 90, top = 64, height = 260, bar = 26, gap = 6, between = 40;
  double const step = bar + gap;
  double width = left;
  for (auto const* c : best) width += step * static_cast<double>(c->memory.size()) + between;
  width = std::max(width, 640.);
  auto const y = [&](double bytes) { return top + height * (1 - bytes / most); };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"420\" viewBox=\"0 0 {0:.0f} 420\" "
      "font-family=\"Inter, 'Helvetica Neue', "
      "Arial, 'DejaVu Sans', sans-serif\" font-size=\"12\" role=\"img\">\n<title>Memory of each rank</title>\n<rect "
      "width=\"100%\" height=\"100%\" "
      "fill=\"#ffffff\"/>\n<text x=\"24\" y=\"30\" font-size=\"16\" font-weight=\"600\">Memory of each rank, "
      "predicted</text>\n",
      width);
  for (int i = 0; i <= 4; ++i)
    svg += fmt::format(
        "<line x1=\"{0:.0f}\" x2=\"{1:.0f}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"#e5e5e5\"/><text x=\"{3:.0f}\" "
        "y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>\n",
        left, width - 20, y(most * i / 4), left - 8, y(most * i / 4) + 4, in_bytes(most * i / 4));
  double x = left + gap;
  for (auto const* c : best) {
    for (std::size_t r = 0; r < c->memory.size(); ++r, x += step) {
      double below = 0;
      for (auto const& [name, colour, bytes] : categories) {
        double const here = c->memory[r].*bytes;
        if (here <= 0) continue;
        svg += fmt::format(
            "<rect x=\"{:.1f}\" y=\"{:.2f}\" width=\"{:.0f}\" height=\"{:.2f}\" fill=\"{}\"><title>rank {}: {} "
            "{}</title></rect>\n",
            x, y(below + here), bar, y(below) - y(below + here), colour, r, name, in_bytes(here));
        below += here;
      }
      svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.0f}\" text-anchor=\"middle\">{}</text>\n", x + bar / 2,
                         top + height + 16, r);
    }
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.0f}\" text-anchor=\"end\">{}, M = {}</text>\n", x - gap,
                       top + height + 34, pw::trace_text::xml(c->schedule), c->facts.micro_batches);
    x += between;
  }
  if (std::isfinite(a.on.memory))
    svg += fmt::format(
        "<line x1=\"{0:.0f}\" x2=\"{1:.0f}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"#c44e52\" stroke-dasharray=\"5 "
        "3\"/><text x=\"{1:.0f}\" y=\"{3:.1f}\" "
        "text-anchor=\"end\" fill=\"#c44e52\">limit {4}</text>\n",
        left, width - 20, y(a.on.memory), y(a.on.memory) - 5, in_bytes(a.on.memory));
  double legend = left;
  for (auto const& each : categories) {
    svg += fmt::format(
        "<rect x=\"{0:.0f}\" y=\"384\" width=\"12\" height=\"12\" fill=\"{1}\"/><text x=\"{2:.0f}\" "
        "y=\"394\">{3}</text>\n",
        legend, each.colour, legend + 18, each.name);
    legend += 105;
  }
  return svg + "</svg>\n";
}

/// Writes <prefix>-1.svg, -2.svg, ..., and <prefix>-memory.svg; their names.
inline std::vector<std::string> draw(answer const& a, std::string const& prefix, std::size_t top) {
  std::vector<pw::plan_candidate const*> best;
  for (auto const& c : a.ranking.candidates)
    if (c.is == pw::plan_candidate::state::fits && best.size() < top) best.push_back(&c);
  std::vector<std::string> files;
  for (auto const* c : best) {
    files.push_back(fmt::format("{}-{}.svg", prefix, files.size() + 1));
    auto const t = timeline_of(*c, a);
    pw::write_file(files.back(), [&](auto&& append) { pw::write_svg(t, append); });
  }
  files.push_back(prefix + "-memory.svg");
  pw::write_file(files.back(), [&](auto&& append) { append(memory_chart(best, a)); });
  return files;
}

}  // namespace planner
