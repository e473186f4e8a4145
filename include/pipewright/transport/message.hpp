// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <utility>

#include <pipewright/transport/parts.hpp>

namespace pipewright::inline v0 {

/// What a transport must know of a boundary type. One constant object a type; its address is the type's identity.
struct message_type {
  void (*exchange)(void* into, void* from);      ///< same process: swaps two values, so that buffers go round and none is made
  std::size_t (*bytes)(void const* object);      ///< of payload, for accounts and for links with a bandwidth
};

/// A value in a slot of the engine, seen by a transport. Non-owning; the slot stays alive until the transfer's ticket is
/// complete.
struct message {
  void* object = nullptr;
  message_type const* type = nullptr;
};

namespace detail {
template<class T>
inline constexpr message_type message_type_of{
    [](void* into, void* from) { std::swap(*static_cast<T*>(into), *static_cast<T*>(from)); },
    [](void const* object) { return bytes_of(*static_cast<T const*>(object)); },
};
}  // namespace detail

/// A slot as a message.
template<class T> constexpr message message_of(T& slot) { return {&slot, &detail::message_type_of<T>}; }

}  // namespace pipewright::inline v0
