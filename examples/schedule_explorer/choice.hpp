// SPDX-License-Identifier: Apache-2.0
// What the command line says of a schedule, and what is wrong with it.
#pragma once

#include <algorithm>
#include <climits>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <pipewright/error.hpp>
#include <pipewright/schedule/named.hpp>

namespace explorer {

namespace pw = pipewright;

/// A schedule and a shape as the user wrote them, 0 where nothing was said.
struct choice {
  std::string schedule;
  std::int64_t ranks = 0, micro_batches = 0, chunks = 0, group = 0, batches = 0;
  bool says_batches = false;
};

inline std::vector<std::string_view> schedule_names() {
  std::vector<std::string_view> names;
  pw::for_each_schedule(pw::all_schedules{}, [&](auto policy) { names.push_back(decltype(policy)::type::name); });
  return names;
}

/// Letters to insert, drop or replace on the way from one word to the other.
inline std::size_t edits_between(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t const replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

/// Foreign text for a message: printable, and not too long.
inline std::string in_quotes(std::string_view text) {
  std::string result = "'";
  for (char c : text.substr(0, 40)) result += c >= ' ' && c <= '~' ? c : '?';
  return result + (text.size() > 40 ? "...'" : "'");
}

[[noreturn]] inline void refuse_name(std::string const& name) {
  auto const names = schedule_names();
  auto const nearest = *std::min_element(
      names.begin(), names.end(), [&](auto a, auto b) { return edits_between(name, a) < edits_between(name, b); });
  throw pw::error(fmt::format("there is no schedule {}{}; the schedules are {}", in_quotes(name),
                              edits_between(name, nearest) <= 3 ? fmt::format(", did you mean '{}'?", nearest) : "",
                              fmt::join(names, ", ")));
}

/// A shape as options of the command line.
inline std::string options_of(pw::shape s, bool grouped, bool stream) {
  return fmt::format("--ranks {} --micro-batches {}{}{}{}", s.ranks, s.micro_batches,
                     grouped || s.chunks != 1 ? fmt::format(" --chunks {}", s.chunks) : "",
                     grouped && s.group != 0 ? fmt::format(" --group {}", s.group) : "",
                     stream && s.batches != 1 ? fmt::format(" --batches {}", s.batches) : "");
}

/// What the user wrote.
inline std::string words_of(choice const& c) {
  auto option = [](char const* name, std::int64_t value, bool said) {
    return said ? fmt::format(" --{} {}", name, value) : std::string();
  };
  return fmt::format("--ranks {} --micro-batches {}", c.ranks, c.micro_batches) +
         option("chunks", c.chunks, c.chunks != 0) + option("group", c.group, c.group != 0) +
         option("batches", c.batches, c.says_batches);
}

/// The most compute actions that a plan of the explorer may have; some 2 GB.
inline constexpr std::int64_t most_actions = 1 << 24;

/// The complete shape that the user means, under a policy; throws a sentence with the rule and the nearest legal shape.
template<class Policy> pw::shape shape_of(choice const& c) {
  constexpr bool grouped = requires { Policy::chunks_in_the_shape; } || Policy::name == "interleaved";
  constexpr bool stream = pw::is_stream(Policy::weights);
  auto number = [](std::int64_t n) { return static_cast<int>(std::clamp<std::int64_t>(n, INT_MIN, INT_MAX)); };
  auto judge = [&](pw::shape s) {
    auto const fault = pw::check_shape<Policy>(s);
    if (fault.ok()) return;
    throw pw::error(fmt::format("{} cannot have {}: {}; the nearest legal shape is {}", Policy::name, words_of(c),
                                sentence(fault.broken), options_of(fault.nearest, grouped, stream)));
  };
  if (c.group != 0 && !grouped)
    throw pw::error(fmt::format("--group belongs to interleaved; {} has no groups, leave it out", Policy::name));
  pw::shape s{number(c.ranks), number(c.micro_batches), number(c.chunks), number(c.group),
              c.says_batches ? number(c.batches) : 1};
  pw::shape bounded = s;  // the general rules first: a policy completes only what has them
  if (s.chunks == 0) bounded.chunks = pw::complete<Policy>({.ranks = 1, .micro_batches = 1}).chunks;
  if (pw::check_shape<Policy>(bounded).broken <= pw::shape_rule::too_large) judge(bounded);
  s = pw::complete<Policy>(s);
  judge(s);
  return s;
}

/// Compute actions of a plan.
inline std::int64_t actions_of(pw::shape s) {
  return 2 * static_cast<std::int64_t>(s.stages()) * s.total_micro_batches();
}

inline void refuse_size(pw::shape s, std::string_view what) {
  if (actions_of(s) > most_actions)
    throw pw::error(
        fmt::format("{} has {} compute actions, more than the {} that are held at once; ask for fewer ranks, chunks, "
                    "micro-batches or batches",
                    what, actions_of(s), most_actions));
}

/// Calls run(std::type_identity<Policy>{}, complete shape) for the schedule that was chosen.
inline void with_schedule(choice const& c, auto&& run) {
  bool const known = pw::visit_schedule(c.schedule, [&](auto policy) {
    auto const s = shape_of<typename decltype(policy)::type>(c);
    refuse_size(s, "this plan");
    run(policy, s);
  });
  if (!known) refuse_name(c.schedule);
}

}  // namespace explorer
