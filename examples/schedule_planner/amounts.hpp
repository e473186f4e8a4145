// SPDX-License-Identifier: Apache-2.0
// Bytes, seconds and links as people write them: 80GiB, 400GB/s,5us.
#pragma once

#include <charconv>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include <pipewright/error.hpp>
#include <pipewright/partition/cluster.hpp>

#include "../tool/schedule_names.hpp"

namespace planner {

namespace pw = pipewright;

namespace detail {

/// A number and what stands behind it.
inline std::pair<double, std::string_view> number_and_unit(std::string_view text, std::string_view option,
                                                           std::string_view expected) {
  double value = 0;
  auto const [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || !std::isfinite(value) || value < 0)
    throw pw::error(fmt::format("{} {}: expected is {}", option, tool::in_quotes(text), expected));
  return {value, text.substr(static_cast<std::size_t>(end - text.data()))};
}

}  // namespace detail

/// 80GiB, 512MB, 1e9: bytes. kB, MB, GB and TB are powers of 1000; KiB, MiB, GiB and TiB of 1024.
inline double parse_bytes(std::string_view text, std::string_view option) {
  constexpr std::string_view expected = "an amount of bytes as 80GiB, 512MB or 1000000";
  auto const [value, unit] = detail::number_and_unit(text, option, expected);
  constexpr std::pair<std::string_view, double> units[]{{"", 1},
                                                        {"B", 1},
                                                        {"kB", 1e3},
                                                        {"KB", 1e3},
                                                        {"MB", 1e6},
                                                        {"GB", 1e9},
                                                        {"TB", 1e12},
                                                        {"KiB", 1024},
                                                        {"MiB", 1048576.},
                                                        {"GiB", 1073741824.},
                                                        {"TiB", 1099511627776.}};
  for (auto const& [name, factor] : units)
    if (unit == name) return value * factor;
  throw pw::error(fmt::format("{} {}: expected is {}", option, tool::in_quotes(text), expected));
}

/// 5us, 0.2ms, 1s: seconds.
inline double parse_seconds(std::string_view text, std::string_view option) {
  constexpr std::string_view expected = "a time as 5us, 0.2ms or 1s";
  auto const [value, unit] = detail::number_and_unit(text, option, expected);
  constexpr std::pair<std::string_view, double> units[]{{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}};
  for (auto const& [name, factor] : units)
    if (unit == name) return value * factor;
  throw pw::error(fmt::format("{} {}: expected is {}", option, tool::in_quotes(text), expected));
}

/// 400GB/s, or 400GB/s,5us: bandwidth and latency of every link.
inline void parse_link(std::string_view text, pw::cluster& on) {
  auto const comma = text.find(',');
  auto bandwidth = text.substr(0, comma);
  if (!bandwidth.ends_with("/s"))
    throw pw::error(fmt::format("--link {}: expected is a bandwidth and, behind a comma, a latency, as 400GB/s,5us",
                                tool::in_quotes(text)));
  bandwidth.remove_suffix(2);
  on.bandwidth = parse_bytes(bandwidth, "--link");
  if (!(on.bandwidth > 0))
    throw pw::error(fmt::format("--link {}: a link carries more than 0 bytes a second", tool::in_quotes(text)));
  if (comma != text.npos) on.latency = parse_seconds(text.substr(comma + 1), "--link");
}

/// 1234567 as 1.18 MiB.
inline std::string in_bytes(double bytes) {
  constexpr char const* units[]{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  int at = 0;
  for (; bytes >= 1024 && at < 5; ++at) bytes /= 1024;
  return fmt::format("{:.{}f} {}", bytes, at == 0 ? 0 : bytes < 10 ? 2 : bytes < 100 ? 1 : 0, units[at]);
}
/// 0.00123 as 1.23 ms.
inline std::string in_seconds(double s) {
  return s == 0     ? "0"
         : s < 1e-3 ? fmt::format("{:.3g} us", 1e6 * s)
         : s < 1    ? fmt::format("{:.4g} ms", 1e3 * s)
                    : fmt::format("{:.4g} s", s);
}

}  // namespace planner
