// SPDX-License-Identifier: Apache-2.0
// Every schedule in turn on one model, side by side.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <pipewright/trace/chart.hpp>

#include "data.hpp"
#include "report.hpp"
#include "training.hpp"

namespace trainer {

struct demo_request {
  request base;
  /// Below the build folder where there is one, so that a checkout stays clean.
  std::string folder = std::filesystem::is_directory("build") ? "build/pipewright-demo" : "pipewright-demo";
};

namespace detail {

inline void say(std::string const& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

struct demo_run {
  request asked;
  prospect plan;
  outcome result;
};

inline std::size_t largest(std::vector<std::size_t> const& by_rank) {
  return *std::max_element(by_rank.begin(), by_rank.end());
}
inline std::size_t sum(std::vector<std::size_t> const& by_rank) {
  std::size_t all = 0;
  for (auto const each : by_rank) all += each;
  return all;
}

inline std::string table(std::vector<demo_run> const& runs) {
  using row = std::vector<std::string>;
  std::vector<row> rows{{"", "loss", "loss", "held-out", "ms", "bubble", "bubble", "in flight", "weight versions",
                         "activations", "weights", "sent"},
                        {"schedule", "first", "last", "loss", "a step", "predicted", "measured", "by rank", "by rank",
                         "largest", "all ranks", "a step"}};
  for (auto const& [r, p, o] : runs)
    rows.push_back({r.schedule, fmt::format("{:.3f}", o.losses.front()), fmt::format("{:.3f}", o.losses.back()),
                    fmt::format("{:.3f}", o.held_out.back().loss), fmt::format("{:.1f}", 1e3 * o.step_seconds),
                    percent(p.bubble), percent(o.bubble_measured), fmt::format("{}", fmt::join(p.in_flight, " ")),
                    fmt::format("{}", fmt::join(p.weight_versions, " ")), in_bytes(largest(o.activation_bytes)),
                    in_bytes(sum(o.weight_bytes)), in_bytes(sum(o.sent_bytes))});
  return aligned(rows);
}

}  // namespace detail

/// Runs the demo; what it writes lies in a folder that it makes.
inline void run_demo(demo_request const& d) {
  using detail::say;
  namespace fs = std::filesystem;
  check(d.base);
  auto const data = load_data(d.base);
  std::error_code code;
  fs::create_directories(d.folder, code);
  if (!fs::is_directory(d.folder))
    throw pw::error(fmt::format("cannot make the folder {}: {}; choose another with --output", d.folder,
                                code ? code.message() : "it is a file"));
  check_writable((fs::path(d.folder) / "demo.json").string());
  auto const costs = measured_costs(d.base);

  auto const cores = std::max(1u, std::thread::hardware_concurrency());
  say(fmt::format("A GPT-2 of {} blocks learns {} text through a pipeline of {} ranks, under each schedule.\n",
                  d.base.model.layers, d.base.data.empty() ? "this library's source as" : "the given", d.base.ranks));
  if (d.base.pace > 1)
    say(
        fmt::format("{} ranks share {} core{}: each action takes {:g} times its processor time, so that the ranks run "
                    "side by side as\ndevices of their own would.\n",
                    d.base.ranks, cores, cores == 1 ? "" : "s", d.base.pace));

  std::vector<detail::demo_run> runs;
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (auto const* schedule : {"sequential", "gpipe", "flush", "interleaved", "1f1b", "1f1b-vsync", "2bw"}) {
    auto r = d.base;
    r.schedule = schedule;
    prospect p;
    try {
      p = plan_training(r, costs);
    } catch (pw::error const& e) {
      if (r.schedule != "interleaved") throw;
      say(fmt::format("{:<12} is left out: {}\n", schedule, e.what()));
      continue;
    }
    if (runs.empty()) say("\n" + describe(r, p) + "\n");
    say(fmt::format("{:<12} {} steps ...", schedule, r.steps));
    auto o = train(threads(), r, p, data, [](int, double, double, std::optional<double>) { return false; });
    say(fmt::format(" loss {:.3f} -> {:.3f}, {:.1f} ms a step\n", o.losses.front(), o.losses.back(),
                    1e3 * o.step_seconds));
    for (auto* kind : {"predicted", "measured"}) {
      auto t = std::string_view(kind) == "predicted" ? p.timeline : o.timeline;
      t.title = title_of(r, t.unit == pw::time_unit::seconds ? "measured" : "predicted in milliseconds");
      for (auto* ending : {".svg", ".json"})
        write_trace((fs::path(d.folder) / fmt::format("{}-{}{}", schedule, kind, ending)).string(), t);
    }
    all.push_back(outcome_json(r, p, o, ""));
    runs.push_back({std::move(r), std::move(p), std::move(o)});
  }
  say("\n" + detail::table(runs) + "\n");

  auto const named = [&](std::string_view name) -> detail::demo_run const& {
    return *std::find_if(runs.begin(), runs.end(), [&](auto const& each) { return each.asked.schedule == name; });
  };
  auto const& gpipe = named("gpipe");
  auto const& flush = named("flush");
  if (flush.result.losses != gpipe.result.losses)
    throw pw::error(
        "flush's losses are not those of gpipe to the last bit; this is a fault of pipewright, please report it");
  say(fmt::format(
      "flush computes what gpipe does (the losses are equal to the last bit) and holds {} of activations where gpipe "
      "holds {}.\n",
      in_bytes(detail::sum(flush.result.activation_bytes)), in_bytes(detail::sum(gpipe.result.activation_bytes))));
  say("1f1b and 1f1b-vsync update after each micro-batch, the others once a step; 2bw updates with gradients one step "
      "old.\n");

  say(fmt::format(
      "\nGPipe's bubble shrinks as micro-batches grow, (P-1)/(M+P-1) for equal stages:\n{:>5}{:>12}{:>12}{:>12}\n", "M",
      "formula", "predicted", "measured"));
  nlohmann::ordered_json sweep = nlohmann::ordered_json::array();
  for (int m = 1; m <= 32; m *= 2) {
    auto r = d.base;
    r.schedule = "gpipe";
    r.micro_batches = m;
    r.steps = m <= 8 ? 6 : 3;
    auto const p = plan_training(r, costs);
    auto const o = train(threads(), r, p, data, [](int, double, double, std::optional<double>) { return false; });
    double const formula = static_cast<double>(r.ranks - 1) / (m + r.ranks - 1);
    say(fmt::format("{:>5}{:>12}{:>12}{:>12}\n", m, percent(formula), percent(p.bubble), percent(o.bubble_measured)));
    sweep.push_back({{"micro_batches", m},
                     {"formula", formula},
                     {"bubble_predicted", p.bubble},
                     {"bubble_measured", o.bubble_measured}});
  }

  say("\nflush, one step, predicted (times in milliseconds) and measured:\n" + pw::chart(flush.plan.timeline) + "\n" +
      pw::chart(flush.result.timeline));
  auto const prompt = std::string("/// The ");
  say(fmt::format(
      "\nAfter {} steps the model goes on from \"{}\":\n{}\n", flush.asked.steps, prompt,
      printable(prompt + writer(flush.asked, data.code, flush.result.weights).go_on(prompt, d.base.sample))));
  write_json((fs::path(d.folder) / "demo.json").string(), {{"runs", all}, {"gpipe_bubble", sweep}});
  say(
      fmt::format("\nTimelines, predicted and measured, are in {}: *.svg for a browser, *.json for ui.perfetto.dev; "
                  "all figures in demo.json.\n",
                  fs::absolute(d.folder).string()));
}

}  // namespace trainer
