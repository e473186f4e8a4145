// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <string_view>

#include <pipewright/transport/parts.hpp>

namespace pipewright::inline v0 {

/// What a transport must know of a boundary type. One constant object a type; its address is the type's identity.
struct message_type {
  std::string_view name;  ///< as the compiler spells it
  void (*exchange)(void* into,
                   void* from);  ///< same process: swaps two values, so that buffers go round and none is made
  std::size_t (*bytes)(void const* object);  ///< of payload, for accounts and for links with a bandwidth
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
};

}  // namespace detail

/// A slot as a message.
template<class T> constexpr message message_of(T& slot) { return {&slot, &detail::message_type_of<T>}; }

}  // namespace pipewright::inline v0
