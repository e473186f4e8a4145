// SPDX-License-Identifier: Apache-2.0
#pragma once
// The program's own operator new, which counts what each thread takes. In one source of a program.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#include <support/counted_bytes.hpp>

namespace support {

/// Before every piece of memory.
struct alignas(std::max_align_t) label {
  std::size_t bytes, taker;
};

/// Memory whose label ends `room` bytes behind its begin.
inline void* labelled(void* memory, std::size_t room, std::size_t bytes) {
  if (memory == nullptr) throw std::bad_alloc();
  auto* const at = static_cast<std::byte*>(memory) + room;
  auto* const made = new (at - sizeof(label)) label{bytes, counted_bytes::taker};
  counted_bytes::add(made->taker, static_cast<std::int64_t>(bytes));
  return at;
}
inline void give_back(void* at, std::size_t room) noexcept {
  if (at == nullptr) return;
  auto const* const made = static_cast<label*>(at) - 1;
  counted_bytes::add(made->taker, -static_cast<std::int64_t>(made->bytes));
  std::free(static_cast<std::byte*>(at) - room);
}
inline std::size_t room_for(std::align_val_t alignment) {
  return std::max(static_cast<std::size_t>(alignment), sizeof(label));
}

}  // namespace support

void* operator new(std::size_t bytes) {
  return support::labelled(std::malloc(sizeof(support::label) + bytes), sizeof(support::label), bytes);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  auto const room = support::room_for(alignment);
  return support::labelled(std::aligned_alloc(room, (room + bytes + room - 1) / room * room), room, bytes);
}
void* operator new[](std::size_t bytes) { return operator new(bytes); }  // address sanitizer has its own of each
void operator delete(void* at) noexcept { support::give_back(at, sizeof(support::label)); }
void operator delete(void* at, std::size_t) noexcept { operator delete(at); }
void operator delete[](void* at) noexcept { operator delete(at); }
void operator delete[](void* at, std::size_t) noexcept { operator delete(at); }
void operator delete(void* at, std::align_val_t alignment) noexcept {
  support::give_back(at, support::room_for(alignment));
}
void operator delete(void* at, std::size_t, std::align_val_t alignment) noexcept { operator delete(at, alignment); }
