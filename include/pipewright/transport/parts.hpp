// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a boundary type is made of: the contiguous parts that a wire carries.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

namespace pipewright::inline v0 {

/// The type of a part's elements, as wires name it. `byte` is anything that only its two ends understand.
enum class element : std::uint8_t {
  byte,
  int8,
  int16,
  int32,
  int64,
  uint8,
  uint16,
  uint32,
  uint64,
  float16,
  bfloat16,
  float32,
  float64
};

/// A contiguous run of elements inside a boundary value: its address, its length in bytes.
struct part {
  void* data;
  std::size_t bytes;
  element type;
  bool on_device = false;  ///< where the host cannot read it, nor transports that go by the host
};

namespace detail {
template<class T> consteval element arithmetic_element() {
  constexpr int power = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
  if constexpr (std::is_same_v<T, float>) return element::float32;
  else if constexpr (std::is_same_v<T, double>) return element::float64;
  else if constexpr (!std::is_integral_v<T> || std::is_same_v<T, bool> || sizeof(T) > 8) return element::byte;
  else return static_cast<element>(static_cast<int>(std::is_signed_v<T> ? element::int8 : element::uint8) + power);
}
}  // namespace detail

/// The element type of a T on the wire. To be specialised for half-precision types; `byte` unless known.
template<class T> inline constexpr element element_of = detail::arithmetic_element<T>();
template<class T, std::size_t N> inline constexpr element element_of<std::array<T, N>> = element_of<T>;

namespace detail {

/// Stands for the visitor that a user's for_each_part is given.
struct any_visitor {
  template<class T> void operator()(T&&) const {}
};

void for_each_part() = delete;  // only what argument-dependent lookup finds

template<class T>
concept visits_its_parts = requires(T& value, any_visitor visit) { value.for_each_part(visit); };
template<class T>
concept is_visited_by_overload = requires(T& value, any_visitor visit) { for_each_part(value, visit); };
template<class T>
concept has_data = requires(T& value) {
  *value.data();
  value.size();
};
template<class T>
concept owns_its_data = has_data<T> && requires(T& value, T const& constant) {
  requires !std::is_const_v<std::remove_reference_t<decltype(*value.data())>>;
  requires std::is_const_v<
      std::remove_reference_t<decltype(*constant.data())>>;  // a view's elements are not constant with it
};
template<class T>
concept may_be_empty = requires(T& value) {
  { value.has_value() } -> std::same_as<bool>;
  *value;
};
template<class T>
concept is_tuple_like = requires { std::tuple_size<T>::value; };

enum class form { none, by_member, by_overload, empty, maybe, run, tuple, plain };

template<class T> consteval form form_of();
template<class T> consteval bool is_flat();

template<class T> consteval bool all_of_tuple_have_parts() {
  return []<std::size_t... I>(std::index_sequence<I...>) {
    return (... && (form_of<std::tuple_element_t<I, T>>() != form::none));
  }(std::make_index_sequence<std::tuple_size_v<T>>());
}

/// How the parts of a T are found; the first that fits.
template<class T> consteval form form_of() {
  if constexpr (visits_its_parts<T>) return form::by_member;
  else if constexpr (is_visited_by_overload<T>) return form::by_overload;
  else if constexpr (std::is_empty_v<T>) return form::empty;
  else if constexpr (may_be_empty<T>)
    return form_of<std::remove_cvref_t<decltype(*std::declval<T&>())>>() == form::none ? form::none : form::maybe;
  else if constexpr (owns_its_data<T>)
    return form_of<std::remove_cvref_t<decltype(*std::declval<T&>().data())>>() == form::none ? form::none : form::run;
  else if constexpr (has_data<T>) return form::none;
  else if constexpr (is_tuple_like<T>) return all_of_tuple_have_parts<T>() ? form::tuple : form::none;
  else if constexpr (std::is_pointer_v<T> || std::is_member_pointer_v<T> || std::is_null_pointer_v<T>)
    return form::none;
  else return std::is_trivially_copyable_v<T> ? form::plain : form::none;
}

template<class T> struct array_element {
  using type = T;
};
template<class T, std::size_t N> struct array_element<std::array<T, N>> : array_element<T> {};

/// Whether a T is its own bytes, so that a run of them is one part.
template<class T> consteval bool is_flat() { return form_of<typename array_element<T>::type>() == form::plain; }

template<class Visit> struct part_visitor;

template<class T, class Visit> constexpr void visit_parts(T& value, Visit&& visit) {
  constexpr form found = form_of<T>();
  static_assert(found != form::none,
                "pipewright: this boundary type does not say what it is made of; give it a member "
                "void for_each_part(auto&& visit) { visit(first_member); visit(second_member); ... }, or a function "
                "for_each_part(T&, visit) in its namespace");
  if constexpr (found == form::by_member) value.for_each_part(part_visitor<Visit>{visit});
  else if constexpr (found == form::by_overload) for_each_part(value, part_visitor<Visit>{visit});
  else if constexpr (found == form::maybe) {
    if (value.has_value()) visit_parts(*value, visit);
  } else if constexpr (found == form::run) part_visitor<Visit>{visit}(std::span(value.data(), value.size()));
  else if constexpr (found == form::tuple) std::apply([&](auto&... each) { (..., visit_parts(each, visit)); }, value);
  else if constexpr (found == form::plain) visit(part{std::addressof(value), sizeof(T), element_of<T>});
}

/// What a user's for_each_part calls with each of its members, with spans of elements, or with a ready part. Where
/// `only_counts`, the parts' data is not looked at.
template<class Visit> struct part_visitor {
  static constexpr bool only_counts = requires { std::remove_cvref_t<Visit>::only_counts; };
  Visit& visit;
  template<class T> constexpr void operator()(T&& value) const {
    if constexpr (std::is_same_v<std::remove_cvref_t<T>, part>) visit(value);
    else visit_parts(value, visit);
  }
  template<class T> constexpr void operator()(std::span<T> run) const {
    if constexpr (!is_flat<T>())
      for (auto& each : run) visit_parts(each, visit);
    else if (!run.empty()) visit(part{run.data(), run.size_bytes(), element_of<T>});
  }
};

struct for_each_part_function {
  template<class T, std::invocable<part> Visit> constexpr void operator()(T& value, Visit&& visit) const {
    visit_parts(value, visit);
  }
};

}  // namespace detail

namespace detail {
struct bytes_counter {
  static constexpr bool only_counts = true;
  std::size_t sum = 0;
  constexpr void operator()(part p) { sum += p.bytes; }
};
}  // namespace detail

/// A type that says what it is made of: arithmetic and trivially copyable types without pointers; `nothing` and other
/// empty types; vectors, strings, arrays (whatever owns data() and size()), optionals, pairs and tuples of such; and
/// any type with a member `void for_each_part(auto&& visit)`, or a function of that name found by argument-dependent
/// lookup, that calls visit with each member, with a std::span of elements, or with a `part`.
template<class T>
concept has_parts = detail::form_of<T>() != detail::form::none;

inline namespace customization {
/// Calls visit(part) for the contiguous parts of a value, in a fixed order; empty runs have none. Linear in the number
/// of parts. A type that fits no model fails with a sentence that says what to add.
inline constexpr detail::for_each_part_function for_each_part{};
}  // namespace customization

/// The bytes of a value's parts together: its payload on a wire. Nothing is written.
template<class T> constexpr std::size_t bytes_of(T const& value) {
  detail::bytes_counter counter;
  for_each_part(const_cast<T&>(value), counter);
  return counter.sum;
}

}  // namespace pipewright::inline v0
