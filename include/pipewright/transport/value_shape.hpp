// SPDX-License-Identifier: Apache-2.0
#pragma once
// The shape of a boundary value: the numbers from which its receiver makes an empty value with the same parts.

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/transport/parts.hpp>

namespace pipewright::inline v0 {

/// A boundary type with a shape of its own, say a tensor's type and dimensions: `shape()` gives numbers, `reshape(numbers)`
/// makes a value with the same parts, whatever they held. Needed where for_each_part gives spans or parts, whose lengths
/// nobody else can change.
template<class T>
concept says_its_shape = requires(T& value, T const& constant, std::span<std::int64_t const> numbers) {
  { constant.shape() } -> std::convertible_to<std::vector<std::int64_t>>;
  value.reshape(numbers);
};

namespace detail {

template<class T> void write_shape(T& value, std::vector<std::int64_t>& numbers);
template<class T> void read_shape(T& value, std::span<std::int64_t const>& numbers);

inline std::int64_t next_number(std::span<std::int64_t const>& numbers) {
  if (numbers.empty())
    throw error("pipewright: a message's shape ends too early; sender and receiver differ in the type");
  std::int64_t const number = numbers.front();
  numbers = {numbers.data() + 1, numbers.size() - 1};
  return number;
}

[[noreturn]] inline void throw_fixed_length(std::int64_t sent, std::size_t here) {
  throw error(
      "pipewright: a run of " + std::to_string(sent) + " was sent into a boundary value that has one of " +
      std::to_string(here) +
      " and cannot change it; give the type members shape() and reshape(numbers), or visit a vector instead of a span");
}

struct shape_writer {
  std::vector<std::int64_t>& numbers;
  template<class T> void operator()(T&& value) const {
    if constexpr (std::is_same_v<std::remove_cvref_t<T>, part>)
      numbers.push_back(static_cast<std::int64_t>(value.bytes));
    else write_shape(value, numbers);
  }
  template<class T> void operator()(std::span<T> run) const {
    numbers.push_back(static_cast<std::int64_t>(run.size()));
    if constexpr (!is_flat<T>())
      for (auto& each : run) write_shape(each, numbers);
  }
};
struct shape_reader {
  std::span<std::int64_t const>& numbers;
  template<class T> void operator()(T&& value) const {
    if constexpr (std::is_same_v<std::remove_cvref_t<T>, part>) expect(value.bytes);
    else read_shape(value, numbers);
  }
  template<class T> void operator()(std::span<T> run) const {
    expect(run.size());
    if constexpr (!is_flat<T>())
      for (auto& each : run) read_shape(each, numbers);
  }
  void expect(std::size_t here) const {
    if (std::int64_t const sent = next_number(numbers); sent != static_cast<std::int64_t>(here))
      throw_fixed_length(sent, here);
  }
};

template<class T> void write_shape(T& value, std::vector<std::int64_t>& numbers) {
  constexpr form found = form_of<T>();
  if constexpr (says_its_shape<T>) {
    std::vector<std::int64_t> const own = value.shape();
    numbers.push_back(static_cast<std::int64_t>(own.size()));
    for (std::int64_t const number : own) numbers.push_back(number);
  } else if constexpr (found == form::by_member) {
    value.for_each_part(shape_writer{numbers});
  } else if constexpr (found == form::by_overload) {
    for_each_part(value, shape_writer{numbers});
  } else if constexpr (found == form::maybe) {
    numbers.push_back(value.has_value());
    if (value.has_value()) write_shape(*value, numbers);
  } else if constexpr (found == form::run) {
    shape_writer{numbers}(std::span(value.data(), value.size()));
  } else if constexpr (found == form::tuple) {
    std::apply([&](auto&... each) { (..., write_shape(each, numbers)); }, value);
  }
}

template<class T> void read_shape(T& value, std::span<std::int64_t const>& numbers) {
  constexpr form found = form_of<T>();
  if constexpr (says_its_shape<T>) {
    std::int64_t const length = next_number(numbers);
    if (length < 0 || static_cast<std::size_t>(length) > numbers.size())
      throw error("pipewright: a message's shape ends too early; sender and receiver differ in the type");
    value.reshape(numbers.first(static_cast<std::size_t>(length)));
    numbers = numbers.subspan(static_cast<std::size_t>(length));
  } else if constexpr (found == form::by_member) {
    value.for_each_part(shape_reader{numbers});
  } else if constexpr (found == form::by_overload) {
    for_each_part(value, shape_reader{numbers});
  } else if constexpr (found == form::maybe) {
    if (next_number(numbers) == 0) return value.reset();
    if (!value.has_value()) value.emplace();
    read_shape(*value, numbers);
  } else if constexpr (found == form::run) {
    std::int64_t const length = next_number(numbers);
    if constexpr (requires { value.resize(std::size_t{}); }) value.resize(static_cast<std::size_t>(length));
    else if (length != static_cast<std::int64_t>(value.size())) throw_fixed_length(length, value.size());
    if constexpr (!is_flat<std::remove_cvref_t<decltype(*value.data())>>())
      for (auto& each : std::span(value.data(), value.size())) read_shape(each, numbers);
  } else if constexpr (found == form::tuple) {
    std::apply([&](auto&... each) { (..., read_shape(each, numbers)); }, value);
  }
}

}  // namespace detail

/// Appends the shape of a value. Linear in its parts.
template<has_parts T> void append_shape(T const& value, std::vector<std::int64_t>& numbers) {
  detail::write_shape(const_cast<T&>(value), numbers);
}

/// Makes of a value one with that shape; what its parts held is lost. Throws where the shape is another type's.
template<has_parts T> void reshape(T& value, std::span<std::int64_t const> numbers) {
  detail::read_shape(value, numbers);
  if (!numbers.empty())
    throw error("pipewright: a message's shape is too long; sender and receiver differ in the type");
}

}  // namespace pipewright::inline v0
