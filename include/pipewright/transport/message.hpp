// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include <pipewright/transport/parts.hpp>
#include <pipewright/transport/value_shape.hpp>

namespace pipewright::inline v0 {

/// What a transport must know of a boundary type. One constant object a type; its address is the type's identity.
struct message_type {
  std::string_view name;  ///< as the compiler spells it
  void (*exchange)(void* into,
                   void* from);  ///< same process: swaps two values, so that buffers go round and none is made
  std::size_t (*bytes)(void const* object);  ///< of payload, for accounts and for links with a bandwidth

  // Between processes:
  void* (*make)();                ///< a new value; null where the type has no default constructor
  void (*destroy)(void* object);  ///< what make() gave
  void (*append_shape)(void const* object, std::vector<std::int64_t>& numbers);
  void (*reshape)(void* object, std::span<std::int64_t const> numbers);
  void (*for_each_part)(void* object, void (*visit)(void* context, part), void* context);
};

/// A value in a slot of the engine, seen by a transport. Non-owning; the slot stays alive until the transfer's ticket
/// is complete, or abort() has returned, or a wait or poll of its rank has thrown.
struct message {
  void* object = nullptr;
  message_type const* type = nullptr;
};

namespace detail {

template<class T> consteval std::string_view spelled() {
  std::string_view const text = __PRETTY_FUNCTION__;  // "... [with T = float; ...]" or "... [T = float]"
  auto const from = text.find("T = ") + 4;
  auto const semicolon = text.find("; std::string_view = ", from);
  return text.substr(from, (semicolon == text.npos ? text.rfind(']') : semicolon) - from);
}

template<class T>
inline constexpr message_type message_type_of{
    spelled<T>(),
    [](void* into, void* from) {
      static_assert(std::swappable<T>,
                    "pipewright: a boundary type is exchanged between slots, so it must be swappable "
                    "(movable, or with a swap of its own)");
      std::ranges::swap(*static_cast<T*>(into), *static_cast<T*>(from));
    },
    [](void const* object) { return bytes_of(*static_cast<T const*>(object)); },
    []() -> void* {
      if constexpr (std::default_initializable<T>) return new T{};
      else return nullptr;
    },
    [](void* object) { delete static_cast<T*>(object); },
    [](void const* object, std::vector<std::int64_t>& numbers) {
      if constexpr (has_parts<T>) append_shape(*static_cast<T const*>(object), numbers);
    },
    [](void* object, std::span<std::int64_t const> numbers) {
      if constexpr (has_parts<T>) pipewright::reshape(*static_cast<T*>(object), numbers);
    },
    [](void* object, void (*visit)(void*, part), void* context) {
      pipewright::for_each_part(*static_cast<T*>(object), [&](part p) { visit(context, p); });
    },
};

}  // namespace detail

/// A slot as a message.
template<class T> constexpr message message_of(T& slot) { return {&slot, &detail::message_type_of<T>}; }

namespace detail {
/// Calls visit(part) for the parts of a value of any type.
void for_each_part_of(message value, auto&& visit) {
  using visitor = std::remove_reference_t<decltype(visit)>;
  value.type->for_each_part(value.object, [](void* context, part p) { (*static_cast<visitor*>(context))(p); }, &visit);
}
}  // namespace detail

}  // namespace pipewright::inline v0
