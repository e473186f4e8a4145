// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cctype>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <pipewright/schedule/policy.hpp>

/// Orders as plain vectors, and a reader of golden texts that shares nothing with the library's notation.
namespace support {

using order = std::vector<pipewright::action>;
using orders = std::vector<order>;  ///< by rank

template<class Policy> order order_of(pipewright::shape s, int rank) {
  order result;
  Policy::order(s, rank, [&](pipewright::action a) { result.push_back(a); });
  return result;
}

template<class Policy> orders orders_of(pipewright::shape s) {
  orders result;
  for (int r = 0; r < s.ranks; ++r) result.push_back(order_of<Policy>(s, r));
  return result;
}

/// Reads "2F0 2B0 2I0 2W0". A text without stages ("F0 B0") stands for `stage`.
inline order read_order(std::string_view text, int stage = -1) {
  order result;
  std::size_t at = 0;
  auto number = [&](int otherwise) {
    if (at == text.size() || !std::isdigit(static_cast<unsigned char>(text[at]))) return otherwise;
    int value = 0;
    while (at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])))
      value = 10 * value + (text[at++] - '0');
    return value;
  };
  while (at < text.size()) {
    if (text[at] == ' ') {
      ++at;
      continue;
    }
    int const s = number(stage);
    auto const letter = at < text.size() ? text[at++] : ' ';
    int const m = number(-1);
    auto const what = std::string_view{"FBIW"}.find(letter);
    if (s < 0 || m < 0 || what == std::string_view::npos)
      throw std::runtime_error{"golden text is misspelt: " + std::string{text}};
    result.push_back(pipewright::make_action(static_cast<pipewright::kind>(what), s, m));
  }
  return result;
}
static_assert(static_cast<int>(pipewright::kind::forward) == 0 && static_cast<int>(pipewright::kind::backward) == 1 &&
              static_cast<int>(pipewright::kind::backward_input) == 2 &&
              static_cast<int>(pipewright::kind::backward_weight) == 3);

/// Writes an order back as golden text, for failure messages.
inline std::string write_order(order const& o) {
  std::string text;
  for (auto const& a : o) {
    if (!text.empty()) text += ' ';
    auto const what = static_cast<std::size_t>(a.what);
    text += std::to_string(a.stage);
    text += what < 4 ? "FBIW"[what] : '?';
    text += std::to_string(a.micro_batch);
  }
  return text;
}

inline std::string describe(pipewright::shape s) {
  return "P" + std::to_string(s.ranks) + " M" + std::to_string(s.micro_batches) + " V" + std::to_string(s.chunks) +
         " G" + std::to_string(s.group) + " batches " + std::to_string(s.batches);
}

}  // namespace support
