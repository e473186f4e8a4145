// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <pipewright/error.hpp>

/// The texts in which SLURM describes a job.
namespace pipewright::inline v0::launch::slurm {

/// The first host of a list such as node[003-010,015],gpu1: node003. Throws pipewright::error where the list is not one.
inline std::string first_host(std::string_view list) {
  auto fail = [&](char const* why) -> std::string {
    throw error("'" + std::string(list) +
                "' is not a list of hosts as SLURM writes it (node[003-010,015],gpu1): " + why);
  };
  auto is_digit = [](char c) { return '0' <= c && c <= '9'; };
  auto is_name = [&](char c) {
    return is_digit(c) || ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || c == '-' || c == '_' || c == '.';
  };
  std::string first;
  bool in_first = true;
  for (std::size_t i = 0, host = 0;; host = ++i) {  // one turn a host, or a group of hosts
    for (; i < list.size() && list[i] != ','; ++i) {
      if (list[i] != '[') {
        if (!is_name(list[i])) return fail("a host has letters, digits, '-', '_' and '.'");
        if (in_first) first += list[i];
        continue;
      }
      for (bool first_number = true;; first_number = false) {  // one turn a number or a range in the brackets
        auto digits = [&] {
          auto const begin = ++i;
          while (i < list.size() && is_digit(list[i])) ++i;
          return list.substr(begin, i - begin);
        };
        auto const low = digits();
        if (low.empty()) return fail("a number is missing in the brackets");
        if (in_first && first_number) first += low;
        if (i < list.size() && list[i] == '-' && digits().empty()) return fail("a range lacks its end");
        if (i == list.size() || (list[i] != ',' && list[i] != ']')) return fail("a bracket is not closed");
        if (list[i] == ']') break;
      }
    }
    if (i == host) return fail("a host is empty");
    if (i == list.size()) return first;
    in_first = false;
  }
}

/// Tasks on one node, of a text such as 2(x3),1: nodes 0 to 2 have 2, node 3 has 1. Nothing where the text does not say.
inline std::optional<int> tasks_on_node(std::string_view text, int node) {
  std::int64_t left = node;
  for (std::size_t i = 0; i < text.size();) {
    auto number = [&]() -> std::optional<std::int64_t> {
      std::int64_t value = 0;
      auto const begin = i;
      for (; i < text.size() && '0' <= text[i] && text[i] <= '9'; ++i)
        if ((value = value * 10 + (text[i] - '0')) > 1'000'000'000) return std::nullopt;
      return i == begin ? std::nullopt : std::optional(value);
    };
    auto const tasks = number();
    if (!tasks) return std::nullopt;
    std::int64_t nodes = 1;
    if (text.substr(i, 2) == "(x") {
      i += 2;
      auto const times = number();
      if (!times || text.substr(i, 1) != ")") return std::nullopt;
      nodes = *times;
      ++i;
    }
    if (left < nodes) return static_cast<int>(*tasks);
    left -= nodes;
    if (i < text.size() && text[i++] != ',') return std::nullopt;
  }
  return std::nullopt;
}

/// The port on which the ranks of a job step meet: the same for all of them, another one for the next step and the next
/// job, and below those that Linux gives to outgoing connections (10000 to 29999).
constexpr int port_of(std::uint64_t job, std::uint64_t step) {
  return 10000 + static_cast<int>((job % 20000 + step % 20000 * 4001) % 20000);
}

}  // namespace pipewright::inline v0::launch::slurm
