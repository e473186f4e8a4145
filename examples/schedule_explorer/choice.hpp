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

#include "../tool/schedule_names.hpp"

namespace explorer {

namespace pw = pipewright;
using tool::in_quotes;
using tool::refuse_name;

/// A schedule and a shape as the user wrote them, 0 where nothing was said.
struct choice {
  std::string schedule;
  std::int64_t ranks = 0, micro_batches = 0, chunks = 0, group = 0, batches = 0;
  bool says_batches = false;
};

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
