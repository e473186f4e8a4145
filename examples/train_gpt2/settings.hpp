// SPDX-License-Identifier: Apache-2.0
// What a training was started with, kept in its checkpoints: a resumed one needs no option said twice.
#pragma once

#include <algorithm>
#include <charconv>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/saved_training.hpp>
#include <pipewright/schedule/named.hpp>

#include "request.hpp"

namespace trainer {

namespace detail {

/// Options that a checkpoint's numbers belong to: they cannot become others.
inline constexpr std::string_view fixed_options[]{"--tied",      "--optimizer", "--seed",   "--micro-batches",
                                                  "--sequences", "--length",    "--pad-to", "--order",
                                                  "--loss-on",   "--accumulate"};
/// Options that stay as they were where nothing else is said.
inline constexpr std::string_view kept_options[]{"--data",       "--tokenizer",      "--steps",     "--learning-rate",
                                                 "--rate-shape", "--warm-up",        "--momentum",  "--weight-decay",
                                                 "--clip",       "--clip-per-stage", "--recompute", "--schedule",
                                                 "--ranks",      "--backend",        "--precision"};
/// The same, as long as schedule and ranks stay.
inline constexpr std::string_view cut_options[]{"--chunks", "--group", "--balance"};

inline std::string words_of(CLI::Option const& option) {
  return option.count() > 0 ? fmt::format("{}", fmt::join(option.results(), ",")) : option.get_default_str();
}

/// 3e-5 is 0.00003.
inline bool mean_the_same(std::string const& a, std::string const& b) {
  double x = 0, y = 0;
  auto const is_number = [](std::string const& text, double& value) {
    auto const [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    return code == std::errc{} && end == text.data() + text.size();
  };
  return a == b || (is_number(a, x) && is_number(b, y) && x == y);
}

}  // namespace detail

/// Gives options that were not said the words that a checkpoint was saved with. Throws where what was said contradicts it.
inline void take_settings(CLI::App& app, gpt2::saved_training const& saved) {
  auto const& settings = saved.record().settings;
  auto const was = [&](CLI::Option const& option) {
    auto const found = settings.find(option.get_name());
    return found == settings.end() ? option.get_default_str() : found->second;
  };
  auto const take = [&](std::string_view name) {
    auto& option = *app.get_option(std::string(name));
    auto const found = settings.find(std::string(name));
    if (option.count() > 0 || found == settings.end()) return;
    option.add_result(found->second);
    option.run_callback();
  };
  for (auto const name : detail::fixed_options) {
    auto const& option = *app.get_option(std::string(name));
    auto const now = detail::words_of(option), then = was(option);
    if (option.count() > 0 && !detail::mean_the_same(now, then))
      throw pw::error(
          fmt::format("{} {} cannot become {}: checkpoint {} was saved with the former; leave the option out", name,
                      then, now, saved.folder().string()));
    take(name);
  }
  for (auto const name : detail::kept_options) take(name);
  auto const stays = [&](char const* name) {
    auto const& option = *app.get_option(name);
    return detail::mean_the_same(detail::words_of(option), was(option));
  };
  if (stays("--schedule") && stays("--ranks"))
    for (auto const name : detail::cut_options) take(name);

  std::string const then = was(*app.get_option("--schedule")), now = detail::words_of(*app.get_option("--schedule"));
  auto const rule_of = [](std::string const& schedule) {
    auto rule = pw::weight_rule::synchronous;
    pw::visit_schedule(schedule, [&](auto policy) { rule = decltype(policy)::type::weights; });
    return rule;
  };
  auto const rule = rule_of(then);
  if (rule_of(now) != rule)
    throw pw::error(
        fmt::format("a training saved under {} cannot go on under {}, which updates weights by another rule; "
                    "choose {} or one with its mathematics",
                    then, now, then));
  bool const depends_on_cut = rule == pw::weight_rule::stashing || rule == pw::weight_rule::vertical_sync;
  auto const& ranks = *app.get_option("--ranks");
  if (depends_on_cut && !stays("--ranks"))
    throw pw::error(
        fmt::format("what {} computes depends on the number of ranks: saved with {}, it goes on with {}, not "
                    "with {}",
                    then, was(ranks), was(ranks), detail::words_of(ranks)));
  if (depends_on_cut && !stays("--balance"))
    throw pw::error(
        fmt::format("what {} computes depends on the cut: leave out --balance to go on with the one that it "
                    "was saved with",
                    then));
}

/// What a checkpoint keeps of the options: those that were said, or taken from another checkpoint.
inline std::map<std::string, std::string> settings_of(CLI::App& app) {
  std::map<std::string, std::string> settings;
  auto const keep = [&](std::string_view name) {
    auto const& option = *app.get_option(std::string(name));
    if (option.count() > 0) settings.emplace(name, detail::words_of(option));
  };
  for (auto const name : detail::fixed_options) keep(name);
  for (auto const name : detail::kept_options) keep(name);
  for (auto const name : detail::cut_options) keep(name);
  return settings;
}

}  // namespace trainer
