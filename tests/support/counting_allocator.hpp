// SPDX-License-Identifier: Apache-2.0
#pragma once
// torch's allocator of the CPU, with a count of the bytes that are out.

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <utility>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <support/counted_bytes.hpp>

namespace support {

struct counting_allocator final : c10::Allocator {
  static inline c10::Allocator* const below = c10::GetCPUAllocator();
  static inline std::mutex mutex;
  struct taken {
    c10::DataPtr memory;
    std::int64_t bytes;
    std::size_t by;
  };
  static inline std::unordered_map<void*, taken> out;

  c10::DataPtr allocate(std::size_t n) override {
    auto memory = below->allocate(n);
    void* const at = memory.get();
    if (at == nullptr) return memory;
    auto const bytes = static_cast<std::int64_t>(n);
    counted_bytes::add(counted_bytes::taker, bytes);
    std::lock_guard const lock(mutex);
    out.insert_or_assign(at, taken{std::move(memory), bytes, counted_bytes::taker});
    return {at, at, &give_back, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  static void give_back(void* at) {
    std::lock_guard const lock(mutex);
    if (auto const found = out.extract(at)) counted_bytes::add(found.mapped().by, -found.mapped().bytes);
    else below->raw_deleter()(at);  // of before we counted
  }
  void copy_data(void* to, void const* from, std::size_t n) const override { default_copy_data(to, from, n); }
};

/// For the rest of the process: torch keeps the pointer.
inline void count_torchs_memory() {
  static counting_allocator one;
  c10::SetCPUAllocator(&one, 100);
}

}  // namespace support
