// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include <pipewright/error.hpp>

namespace pipewright::inline v0::launch {

/// An environment: what a variable holds, or nothing.
using environment = std::function<std::optional<std::string>(std::string const& name)>;

namespace detail {

/// A number and who said it: RANK=3.
template<class T>
struct said {
  T value;
  std::string by;
};

/// Throws unless low <= value <= high.
template<class T>
said<T> in_range(T value, std::string by, T low, T high) {
  if (value < low && low == 0) throw error(by + " is negative: correct it or leave it out");
  if (value < low || high < value)
    throw error(by + " is not between " + std::to_string(low) + " and " + std::to_string(high) +
                ": correct it or leave it out");
  return {value, std::move(by)};
}

constexpr int any_number = std::numeric_limits<int>::max();

/// Reads variables. An empty one counts as not set. Throws pipewright::error, which quotes the variable, where a number
/// is asked for and there is another text.
class reader {
  environment const& look_up_;

 public:
  explicit reader(environment const& look_up) : look_up_(look_up) {}

  std::optional<std::string> text(std::string const& name) const {
    auto value = look_up_(name);
    if (value && value->empty()) value.reset();
    return value;
  }

  std::optional<said<std::int64_t>> number(std::string const& name, std::int64_t low, std::int64_t high) const {
    auto const value = text(name);
    if (!value) return std::nullopt;
    auto const by = name + "=" + *value;
    std::int64_t parsed = 0;
    auto const [end, code] = std::from_chars(value->data(), value->data() + value->size(), parsed);
    if (end != value->data() + value->size() || code == std::errc::invalid_argument)
      throw error(by + " is not a whole number: correct it or unset it");
    if (code == std::errc::result_out_of_range) {
      if (value->front() != '-') throw error(by + " is too large: correct it or unset it");
      parsed = -1;
    }
    return in_range(parsed, by, low, high);
  }

  std::optional<said<int>> integer(std::string const& name, int low = 0, int high = any_number) const {
    auto const value = number(name, low, high);
    if (!value) return std::nullopt;
    return said<int>{static_cast<int>(value->value), value->by};
  }

  bool is_set(std::string const& name) const { return text(name).has_value(); }
};

}  // namespace detail
}  // namespace pipewright::inline v0::launch
