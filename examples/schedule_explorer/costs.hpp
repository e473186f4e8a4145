// SPDX-License-Identifier: Apache-2.0
// Costs as the command line writes them, and exact times as it prints them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <pipewright/plan/simulate.hpp>

#include "choice.hpp"

namespace explorer {

using json = nlohmann::ordered_json;

/// A number that is not negative: 2, 0.25, 18.522 or 1/3.
inline pw::rational parse_time(std::string_view text, std::string_view key) {
  auto refuse = [&] {
    return pw::error(
        fmt::format("--cost {}={}: a number that is not negative is expected, with at most 9 digits on each side, as "
                    "2, 0.25 or 1/3",
                    key, in_quotes(text)));
  };
  auto digits = [&](std::string_view s) {
    if (s.empty() || s.size() > 9) throw refuse();
    std::int64_t n = 0;
    for (char c : s) {
      if (c < '0' || c > '9') throw refuse();
      n = 10 * n + (c - '0');
    }
    return n;
  };
  if (auto const slash = text.find('/'); slash != text.npos) {
    auto const below = digits(text.substr(slash + 1));
    if (below == 0) throw refuse();
    return {digits(text.substr(0, slash)), below};
  }
  auto const point = text.find('.');
  if (point == text.npos) return digits(text);
  auto const whole = text.substr(0, point), part = text.substr(point + 1);
  if (whole.empty() && part.empty()) throw refuse();
  std::int64_t scale = 1;
  for (std::size_t i = 0; i < part.size() && i < 9; ++i) scale *= 10;
  return pw::rational(whole.empty() ? 0 : digits(whole)) + pw::rational(part.empty() ? 0 : digits(part), scale);
}

/// `forward=1,backward_input=1,backward_weight=1,transfer=0`, each of them optional.
inline pw::costs<pw::rational> parse_costs(std::string_view text) {
  pw::costs<pw::rational> cost;
  while (!text.empty()) {
    auto const comma = text.find(',');
    auto const item = text.substr(0, comma);
    text.remove_prefix(comma == text.npos ? text.size() : comma + 1);
    auto const equals = item.find('=');
    auto const key = item.substr(0, equals);
    pw::rational* const into = key == "forward"           ? &cost.forward
                               : key == "backward_input"  ? &cost.backward_input
                               : key == "backward_weight" ? &cost.backward_weight
                               : key == "transfer"        ? &cost.transfer
                                                          : nullptr;
    if (into == nullptr || equals == item.npos)
      throw pw::error(fmt::format(
          "--cost {}: expected are forward=, backward_input=, backward_weight= and transfer=, separated by commas",
          in_quotes(item)));
    *into = parse_time(item.substr(equals + 1), key);
  }
  return cost;
}

inline pw::costs<double> rounded(pw::costs<pw::rational> const& c) {
  return {.forward = static_cast<double>(c.forward),
          .backward_input = static_cast<double>(c.backward_input),
          .backward_weight = static_cast<double>(c.backward_weight),
          .recompute = static_cast<double>(c.recompute),
          .transfer = static_cast<double>(c.transfer)};
}

inline json number(pw::rational r) { return r.denominator() == 1 ? json(r.numerator()) : json(static_cast<double>(r)); }
inline json number(double d) { return d; }

}  // namespace explorer
