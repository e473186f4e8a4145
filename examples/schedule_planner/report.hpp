// SPDX-License-Identifier: Apache-2.0
// What the planner says: a table with reasons, JSON, and how to run its choice.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <pipewright/partition/cut_with_replicas.hpp>
#include <pipewright/partition/planner.hpp>

#include "amounts.hpp"
#include "profile_file.hpp"

namespace planner {

/// A question and its answer.
struct answer {
  profile_file const& of;
  pw::cluster on;
  pw::plan_choices among;
  pw::plan_ranking ranking;
};

inline std::string_view name_of(pw::recompute_mode mode) {
  return mode == pw::recompute_mode::never ? "never" : mode == pw::recompute_mode::always ? "always" : "except_last";
}

/// Runs of equal numbers in short: 4,3*2,4.
inline std::string short_cut(std::vector<int> const& sizes) {
  std::string text;
  for (std::size_t i = 0; i < sizes.size();) {
    std::size_t same = i;
    while (same < sizes.size() && sizes[same] == sizes[i]) ++same;
    text += (i == 0 ? "" : ",") + std::to_string(sizes[i]) + (same - i > 1 ? "*" + std::to_string(same - i) : "");
    i = same;
  }
  return text;
}

/// Why a candidate is slower than the best: the part of its step that grew most, in the same unit as all others.
inline std::string why(pw::plan_candidate const& c, pw::plan_candidate const& best) {
  struct part {
    char const* name;
    double more;
  };
  part const parts[]{{"updates", c.time.work - best.time.work},
                     {"recomputes", c.time.recompute - best.time.recompute},
                     {"imbalance", c.time.imbalance - best.time.imbalance},
                     {"bubble", c.time.bubble - best.time.bubble},
                     {"communication", c.time.communication - best.time.communication}};
  double const slower = c.seconds() - best.seconds();
  if (slower <= 1e-9 * best.seconds())
    return c.most_memory() > best.most_memory()
               ? fmt::format("as fast, holds {} more", in_bytes(c.most_memory() - best.most_memory()))
               : "as fast";
  auto const worst = *std::max_element(std::begin(parts), std::end(parts),
                                       [](auto const& a, auto const& b) { return a.more < b.more; });
  return fmt::format("{} slower: {} +{}", in_seconds(slower), worst.name, in_seconds(worst.more));
}

inline std::string why_not(pw::plan_candidate const& c, pw::cluster const& on) {
  std::size_t fullest = 0;
  for (std::size_t r = 0; r < c.memory.size(); ++r)
    if (c.memory[r].total() > c.memory[fullest].total()) fullest = r;
  return fmt::format("needs {} on rank {}, {} more than there are", in_bytes(c.most_memory()), fullest,
                     in_bytes(c.most_memory() - on.memory));
}

/// The bandwidth of the slowest link between two ranks of a cluster.
inline double slowest_bandwidth(pw::cluster const& on) {
  double slowest = std::numeric_limits<double>::infinity();
  long long pairs = 1LL * on.ranks * (on.ranks - 1) / 2;
  for (auto const& link : on.links)
    if (std::max(link.from, link.to) < on.ranks) slowest = std::min(slowest, link.bandwidth), --pairs;
  return pairs > 0 ? std::min(slowest, on.bandwidth) : slowest;
}

/// PipeDream's cut with replicas, of the profile's own micro-batches, over links that are all like the slowest; none where devices
/// differ, which it does not know of, or there are too many layers and devices for it, or the numbers are.
inline std::optional<pw::replicated_cut> with_replicas(answer const& a) {
  double const layers = a.of.profile.count(), devices = a.on.ranks;
  if (!a.on.pace.empty() || layers * layers * devices * devices > 3e8) return std::nullopt;
  pw::replica_costs costs{.work = {}, .parameters = {}, .crossing = {}, .bandwidth = slowest_bandwidth(a.on)};
  for (auto const& l : a.of.profile.layers) {
    costs.work.push_back(l.work());
    costs.parameters.push_back(l.parameters);
    costs.crossing.push_back(l.output);
  }
  costs.crossing.pop_back();
  try {
    return pw::cut_with_replicas(costs, a.on.ranks);
  } catch (pw::error const&) {
    return std::nullopt;
  }
}

/// What replicas would bring, where by PipeDream's account it is more than the best plan does: said, since nothing runs them yet.
inline std::string replicas(answer const& a) {
  auto const found = with_replicas(a);
  auto const* const best = a.ranking.best();
  if (!found || best == nullptr || static_cast<int>(found->stages.size()) == a.on.ranks) return {};
  double const samples_a_second = a.of.profile.samples / found->dearest;
  if (samples_a_second <= a.among.batch / best->seconds()) return {};
  std::vector<std::string> stages;
  for (auto const& [first, last, count] : found->stages)
    stages.push_back(fmt::format(
        "{} on {} device{}",
        first + 1 == last ? fmt::format("layer {}", first) : fmt::format("layers {} to {}", first, last - 1), count,
        count == 1 ? "" : "s"));
  return fmt::format(
      "not runnable yet: by PipeDream's account, which counts neither memory nor the filling of the pipeline, replicas "
      "of "
      "stages, which the engine does not have, would train {:.4g} samples/s: {}\n",
      samples_a_second, fmt::join(stages, ", "));
}

/// The ranked table, `top` lines of it.
inline std::string table(answer const& a, std::size_t top) {
  using state = pw::plan_candidate::state;
  auto const& all = a.ranking.candidates;
  auto const* const best = a.ranking.best();
  auto const count = [&](state is) {
    return std::count_if(all.begin(), all.end(), [&](auto const& c) { return c.is == is; });
  };
  std::string text = fmt::format("{}{} layers, {} rank{}, batch {}\n", a.of.model.empty() ? "" : a.of.model + ": ",
                                 a.of.profile.count(), a.on.ranks, a.on.ranks == 1 ? "" : "s", a.among.batch);
  text += fmt::format("no plan beats {} a step ({:.4g} samples/s): all ranks busy all the time, nothing done twice\n",
                      in_seconds(a.ranking.bound), a.among.batch / a.ranking.bound);
  std::vector<std::vector<std::string>> rows{{"", "schedule", "M", "V", "samples", "recompute", "step", "samples/s",
                                              "of bound", "work", "imbalance", "bubble", "links", "memory", "cut",
                                              "why"}};
  for (auto const& c : all) {
    if (c.is != state::fits || rows.size() > top) break;
    auto const part = [&](double x) { return in_seconds(x > 1e-9 * c.seconds() ? x : 0); };
    rows.push_back({std::to_string(rows.size()), c.schedule, std::to_string(c.facts.micro_batches),
                    std::to_string(c.facts.chunks), std::to_string(c.samples), std::string(name_of(c.recompute)),
                    in_seconds(c.seconds()), fmt::format("{:.4g}", a.among.batch / c.seconds()),
                    fmt::format("{:.1f} %", 100 * a.ranking.bound / c.seconds()),
                    in_seconds(c.time.work + c.time.recompute), part(c.time.imbalance), part(c.time.bubble),
                    part(c.time.communication), in_bytes(c.most_memory()), short_cut(c.sizes),
                    &c == best ? "" : why(c, *best)});
  }
  if (rows.size() > 1) {
    std::vector<std::size_t> widths(rows.front().size());
    for (auto const& row : rows)
      for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    for (auto const& row : rows) {
      std::string line;
      for (std::size_t i = 0; i < row.size(); ++i)
        line += fmt::format("{:<{}}", row[i], i + 1 == row.size() ? 0 : widths[i] + 2);
      text += "\n" + line.substr(0, line.find_last_not_of(' ') + 1);
    }
    text += "\n\n";
  }
  if (auto const more = count(state::fits) - static_cast<std::ptrdiff_t>(rows.size()) + 1; more > 0)
    text += fmt::format("{} more fit and are slower; --top shows them\n", more);
  if (auto const slow = count(state::too_slow); slow > 0)
    text += fmt::format("{} more cannot be faster and were not simulated\n", slow);
  if (auto const large = count(state::not_looked); large > 0)
    text += fmt::format("{} were left out, with more than {} actions to simulate: --most-actions looks at them\n",
                        large, a.among.most_actions);
  if (best != nullptr && best->gap > 1e-3)
    text += fmt::format("the cut of 1 is not proven the best: its dearest rank might have up to {:.1f} % less to do\n",
                        100 * best->gap);
  if (auto const not_fitting = count(state::too_large); not_fitting > 0) {
    auto const& lean = *a.ranking.leanest();
    text += fmt::format("{} do not fit into {} a rank", not_fitting, in_bytes(a.on.memory));
    text += fmt::format("; of these {} with {} micro-batches of {} sample{}, recompute {}, needs least: it {}\n",
                        lean.schedule, lean.facts.micro_batches, lean.samples, lean.samples == 1 ? "" : "s",
                        name_of(lean.recompute), why_not(lean, a.on));
  }
  return text + replicas(a);
}

/// Why there is no plan, and the smallest change that gives one.
inline std::string no_plan(answer const& a) {
  if (auto const* const lean = a.ranking.leanest())
    return fmt::format(
        "nothing fits into {} a rank; the smallest change that gives a plan is --memory {:.0f} ({}) for {} with {} "
        "micro-batches of {} sample{}, "
        "recompute {}; or take more ranks, or a smaller --batch",
        in_bytes(a.on.memory), std::ceil(lean->most_memory()), in_bytes(lean->most_memory()), lean->schedule,
        lean->facts.micro_batches, lean->samples, lean->samples == 1 ? "" : "s", name_of(lean->recompute));
  if (a.of.profile.count() < a.on.ranks)
    return fmt::format("{} ranks cannot share {} layers; take at most {} ranks, or profile the model in smaller layers",
                       a.on.ranks, a.of.profile.count(), a.of.profile.count());
  if (!a.ranking.candidates.empty())
    return fmt::format("all {} plans have more than {} actions to simulate; --most-actions allows more",
                       a.ranking.candidates.size(), a.among.most_actions);
  return "no schedule has such a shape; allow other --micro-batch sizes, schedules or chunks";
}

/// What realises a candidate: the trainer's flags.
inline std::string flags_of(pw::plan_candidate const& c) {
  return fmt::format("--schedule {} --ranks {} --micro-batches {} --sequences {}{}{} --balance {} --recompute {}",
                     c.schedule, c.facts.ranks, c.facts.micro_batches, c.samples,
                     c.facts.chunks > 1 ? fmt::format(" --chunks {}", c.facts.chunks) : "",
                     c.facts.group > 0 ? fmt::format(" --group {}", c.facts.group) : "", fmt::join(c.sizes, ","),
                     name_of(c.recompute));
}
/// The same as C++: a header with the plan's type and the cut.
inline std::string code_of(pw::plan_candidate const& c) {
  std::string policy;
  pw::visit_schedule(c.schedule, [&](auto p) {
    using P = typename decltype(p)::type;
    std::string_view const name = P::name;
    policy = name == "1f1b"         ? "one_f_one_b"
             : name == "1f1b-vsync" ? "one_f_one_b_vertical_sync"
             : name == "2bw"        ? "two_buffered"
                                    : std::string(name);
  });
  if (c.schedule == "interleaved") policy += fmt::format("<{}>", c.facts.chunks);
  bool const again = c.recompute != pw::recompute_mode::never;
  auto const cut = fmt::format("pw::balance<{}>(model)", fmt::join(c.sizes, ", "));
  return fmt::format(
      "#include <pipewright/pipewright.hpp>\n\n"
      "namespace pw = pipewright;\n\n"
      "inline constexpr auto plan = pw::plan<pw::{}, pw::shape{{.ranks = {}, .micro_batches = {}{}{}}}{}>;\n\n"
      "/// A rank of it, of a model of {} layers.\n"
      "auto pipeline(auto const& model, auto& here, auto optimizer) {{\n"
      "  return pw::pipeline(plan, {}, here, optimizer);\n"
      "}}\n",
      policy, c.facts.ranks, c.facts.micro_batches,
      c.facts.chunks > 1 ? fmt::format(", .chunks = {}", c.facts.chunks) : "",
      c.facts.group > 0 ? fmt::format(", .group = {}", c.facts.group) : "",
      again ? fmt::format(", pw::needs{{.recompute = pw::recompute_mode::{}}}", name_of(c.recompute)) : "",
      std::accumulate(c.sizes.begin(), c.sizes.end(), 0),
      again ? fmt::format("pw::recompute_each({}, pw::recompute_mode::{})", cut, name_of(c.recompute)) : cut);
}

inline json json_of(pw::plan_candidate const& c, answer const& a) {
  using state = pw::plan_candidate::state;
  json j{{"schedule", c.schedule},
         {"ranks", c.facts.ranks},
         {"micro_batches", c.facts.micro_batches},
         {"chunks", c.facts.chunks},
         {"group", c.facts.group},
         {"samples", c.samples},
         {"recompute", name_of(c.recompute)},
         {"is", c.is == state::fits        ? "fits"
                : c.is == state::too_large ? "too large"
                : c.is == state::too_slow  ? "too slow"
                                           : "not looked at"},
         {"seconds_at_least", c.seconds_at_least}};
  if (c.is == state::fits) {
    j["seconds"] = c.seconds();
    j["samples_per_second"] = a.among.batch / c.seconds();
    j["parts"] = {{"work", c.time.work},
                  {"recompute", c.time.recompute},
                  {"imbalance", c.time.imbalance},
                  {"bubble", c.time.bubble},
                  {"communication", c.time.communication}};
    j["flags"] = flags_of(c);
  }
  if (!c.sizes.empty()) j["balance"] = c.sizes;
  if (c.is == state::fits && a.among.sizes.empty()) j["cut_gap"] = c.gap;
  for (auto const& m : c.memory)
    j["memory"].push_back({{"weights", m.weights},
                           {"gradients", m.gradients},
                           {"optimizer", m.optimizer},
                           {"activations", m.activations},
                           {"boundaries", m.boundaries},
                           {"workspace", m.workspace},
                           {"total", m.total()}});
  return j;
}

inline json json_of(answer const& a) {
  json all{{"model", a.of.model}, {"batch", a.among.batch}, {"ranks", a.on.ranks}, {"bound_seconds", a.ranking.bound}};
  all["candidates"] = json::array();
  for (auto const& c : a.ranking.candidates) all["candidates"].push_back(json_of(c, a));
  if (auto const found = with_replicas(a)) {
    json stages = json::array();
    for (auto const& [first, last, count] : found->stages)
      stages.push_back({{"first", first}, {"last", last - 1}, {"devices", count}});
    all["with_replicas"] = {
        {"runnable", false}, {"samples_per_second", a.of.profile.samples / found->dearest}, {"stages", stages}};
  }
  return all;
}

}  // namespace planner
