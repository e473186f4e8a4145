// SPDX-License-Identifier: Apache-2.0
// What is said of a training: lines, a table, JSON.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <pipewright/trace/perfetto.hpp>
#include <pipewright/trace/svg.hpp>
#include <pipewright/trace/write_file.hpp>

#include "training.hpp"

namespace trainer {

/// 1234567 as 1.2 MB.
inline std::string in_bytes(std::size_t bytes) {
  auto const b = static_cast<double>(bytes);
  return b < 1e3   ? fmt::format("{} B", bytes)
         : b < 1e6 ? fmt::format("{:.1f} kB", b / 1e3)
         : b < 1e9 ? fmt::format("{:.1f} MB", b / 1e6)
                   : fmt::format("{:.2f} GB", b / 1e9);
}
inline std::string in_bytes(std::vector<std::size_t> const& by_rank) {
  std::string text;
  for (auto const each : by_rank) text += (text.empty() ? "" : ", ") + in_bytes(each);
  return text;
}
inline std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

/// A trace as Perfetto JSON, or as SVG where the file's name says so.
inline void write_trace(std::string const& file, pw::trace const& t) {
  bool const picture = file.size() > 4 && file.ends_with(".svg");
  pw::write_file(file, [&](auto&& append) {
    if (picture) pw::write_svg(t, append);
    else pw::write_perfetto(t, append);
  });
}

inline std::string title_of(request const& r, char const* kind) {
  return fmt::format("{}: GPT-2 of {} blocks, {} ranks, {} micro-batches a step, {}", r.schedule, r.model.layers,
                     r.ranks, r.micro_batches, kind);
}

/// The cut and what each rank holds, before anything runs.
inline std::string describe(request const& r, prospect const& p) {
  pw::plan_view const plan = p.plan;
  auto const layers = [&](int first, int count) {
    std::vector<std::string> names;
    int const blocks_from = std::max(first, 1), blocks_to = std::min(first + count, r.model.layers + 1);
    if (first == 0) names.push_back("embedding");
    if (blocks_to - blocks_from == 1) names.push_back(fmt::format("block {}", blocks_from - 1));
    if (blocks_to - blocks_from > 1) names.push_back(fmt::format("blocks {}-{}", blocks_from - 1, blocks_to - 2));
    if (first + count == gpt2::layer_count(r.model)) names.push_back("head");
    return fmt::format("{}", fmt::join(names, " + "));
  };
  std::size_t all = 0;
  for (auto const each : p.parameters) all += each;
  std::string text = fmt::format(
      "GPT-2 of {} blocks, width {}, {} heads, vocabulary {}: {} parameters; {} x {}{} tokens a micro-batch, "
      "{} micro-batch{} a step\n",
      r.model.layers, r.model.width, r.model.heads, r.model.vocabulary, all, r.sequences,
      r.has_documents() && r.pad_to == 0 ? "up to " : "", r.sequence_length(), r.micro_batches,
      r.micro_batches == 1 ? "" : "es");
  text += fmt::format("schedule {}, {} rank{}{}; predicted bubble {}\n", r.schedule, r.ranks, r.ranks == 1 ? "" : "s",
                      plan.facts.chunks > 1 ? fmt::format(" of {} stages", plan.facts.chunks) : "", percent(p.bubble));
  for (int s = 0, first = 0; s < plan.stages(); first += p.sizes[static_cast<std::size_t>(s++)])
    text += fmt::format("  stage {} on rank {}: {}\n", s, plan.rank_of_stage[s],
                        layers(first, p.sizes[static_cast<std::size_t>(s)]));
  for (std::size_t rank = 0; rank < p.parameters.size(); ++rank)
    text += fmt::format(
        "  rank {}: {} parameters, weights {} ({} version{}), activations {} ({} in flight), sends {} a step\n", rank,
        p.parameters[rank], in_bytes(p.weight_bytes[rank]), p.weight_versions[rank],
        p.weight_versions[rank] == 1 ? "" : "s", in_bytes(p.activation_bytes[rank]), p.in_flight[rank],
        in_bytes(p.sent_bytes[rank]));
  return text;
}

inline nlohmann::ordered_json json_of(request const& r, prospect const& p) {
  nlohmann::ordered_json j;
  pw::plan_view const plan = p.plan;
  j["schedule"] = r.schedule;
  j["ranks"] = r.ranks;
  j["micro_batches"] = r.micro_batches;
  j["chunks"] = plan.facts.chunks;
  j["balance"] = p.sizes;
  j["model"] = {{"layers", r.model.layers},
                {"width", r.model.width},
                {"heads", r.model.heads},
                {"positions", r.model.positions},
                {"vocabulary", r.model.vocabulary}};
  j["parameters"] = p.parameters;
  j["tokens_per_step"] = r.tokens_of_micro_batch() * r.micro_batches;
  j["bubble_predicted"] = p.bubble;
  j["in_flight"] = p.in_flight;
  j["weight_versions"] = p.weight_versions;
  return j;
}

/// Of a dry run: bytes as predicted.
inline nlohmann::ordered_json prospect_json(request const& r, prospect const& p) {
  auto j = json_of(r, p);
  j["dry_run"] = true;
  j["activation_bytes"] = p.activation_bytes;
  j["weight_bytes"] = p.weight_bytes;
  j["sent_bytes"] = p.sent_bytes;
  return j;
}

inline nlohmann::ordered_json outcome_json(request const& r, prospect const& p, outcome const& o,
                                           std::string const& text) {
  auto j = json_of(r, p);
  j["steps"] = r.steps;
  j["resumed_at"] = r.steps - static_cast<int>(o.losses.size());
  j["losses"] = o.losses;
  j["held_out"] = nlohmann::ordered_json::array();
  for (auto const& each : o.held_out)
    j["held_out"].push_back({{"step", each.step}, {"loss", each.loss}, {"perplexity", each.perplexity()}});
  j["step_seconds"] = o.step_seconds;
  j["tokens_per_second"] = o.tokens_per_second;
  j["pace"] = r.pace;
  j["bubble_measured"] = o.bubble_measured;
  j["activation_bytes"] = o.activation_bytes;
  j["weight_bytes"] = o.weight_bytes;
  j["sent_bytes"] = o.sent_bytes;
  j["sample"] = text;
  return j;
}

inline void write_json(std::string const& file, nlohmann::ordered_json const& j) {
  auto const text = j.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  if (file == "-") fmt::print("{}", text);
  else pw::write_file(file, text);
}

/// Text as a terminal may show it: no control characters but line breaks.
inline std::string printable(std::string_view text) {
  std::string shown;
  for (char const c : text) shown += c == '\n' || (c >= ' ' && c <= '~') ? c : '?';
  return shown;
}

/// Rows of cells as lines, each column as wide as its widest cell, the first to the left.
inline std::string aligned(std::vector<std::vector<std::string>> const& rows) {
  std::string text;
  for (auto const& each : rows) {
    for (std::size_t column = 0; column < each.size(); ++column) {
      std::size_t width = 0;
      for (auto const& other : rows) width = std::max(width, other[column].size());
      text += column == 0 ? fmt::format("{:<{}}", each[column], width) : fmt::format("  {:>{}}", each[column], width);
    }
    text += '\n';
  }
  return text;
}

/// The end of a training: its figures, and a table of what each rank held.
inline std::string summary(prospect const& p, outcome const& o) {
  auto const held_out = o.held_out.empty() ? ""
                                           : fmt::format("; held out {:.3f}, perplexity {:.1f}", o.held_out.back().loss,
                                                         o.held_out.back().perplexity());
  std::vector<std::vector<std::string>> rows{
      {"rank", "in flight", "weight versions", "activations", "weights", "sent a step"}};
  for (std::size_t rank = 0; rank < o.weight_bytes.size(); ++rank)
    rows.push_back({std::to_string(rank), std::to_string(p.in_flight[rank]), std::to_string(p.weight_versions[rank]),
                    in_bytes(o.activation_bytes[rank]), in_bytes(o.weight_bytes[rank]), in_bytes(o.sent_bytes[rank])});
  return fmt::format(
             "loss {:.3f} -> {:.3f}{}\n"
             "{:.1f} ms a step, {:.0f} tokens/s; bubble predicted {}, measured {}\n",
             o.losses.front(), o.losses.back(), held_out, 1e3 * o.step_seconds, o.tokens_per_second, percent(p.bubble),
             percent(o.bubble_measured)) +
         aligned(rows);
}

}  // namespace trainer
