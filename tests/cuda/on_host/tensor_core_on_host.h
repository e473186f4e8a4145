// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the tensor cores' instructions do, without a device: as the PTX ISA describes them (mma.m16n8k16 with bf16,
// ldmatrix, cp.async). A warp's call has one barrier, at which each lane gives what the others need of it; two rounds
// of places, so that a lane that goes on does not write what another still reads.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace cuda_on_host {

[[noreturn]] inline void refuse(char const* why) {
  std::fprintf(stderr, "%s\n", why);
  std::abort();
}

enum class collective { multiply, load };

/// What the lanes of a warp gave in one call.
class given_by_lanes {
  struct place {
    collective of;
    std::uint64_t words[3];
  };
  static inline place places[2][1024];
  static inline unsigned rounds[1024];
  place const* first_;

 public:
  template<class T> given_by_lanes(collective of, T const& mine) {
    static_assert(sizeof mine <= sizeof place::words);
    block& here = block::current();
    unsigned const thread = here.running(), round = rounds[thread]++ % 2;
    places[round][thread].of = of;
    std::memcpy(places[round][thread].words, &mine, sizeof mine);
    here.wait(barrier::of_warp);
    first_ = &places[round][thread / 32 * 32];
    for (unsigned i = 0; i < 32; ++i)
      if (first_[i].of != of) refuse("the lanes of a warp are at different instructions of the tensor cores");
  }
  template<class T> T from(unsigned lane) const {
    T given;
    std::memcpy(&given, first_[lane].words, sizeof given);
    return given;
  }
};

inline float half_of(std::uint32_t two, unsigned which) {
  return __bfloat162float({static_cast<std::uint16_t>(two >> 16 * which)});
}

/// c += a b: a 16 x 16, b 16 x 8, c 16 x 8, of which lane 4 g + t has, with i = 0, 1,
///   register r of a: row g + 8 (r % 2), columns 2 t + 8 (r / 2) + i
///   register r of b: rows 2 t + 8 r + i, column g
///   c[2 h + i]: row g + 8 h, column 2 t + i.
inline void multiply(float (&c)[4], std::uint32_t const (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  struct gives {
    std::uint32_t a[4], b[2];
  };
  given_by_lanes const all(collective::multiply, gives{{a[0], a[1], a[2], a[3]}, {b0, b1}});
  unsigned const lane = block::current().running() % 32, g = lane / 4, t = lane % 4;
  for (unsigned quad = 0; quad < 4; ++quad) {  // of k: 2 quad + 8 r + i
    auto const& of_row = all.from<gives>(4 * g + quad);
    for (unsigned column = 0; column < 2; ++column) {
      auto const& of_column = all.from<gives>(4 * (2 * t + column) + quad);
      for (unsigned h = 0; h < 2; ++h)
        for (unsigned r = 0; r < 2; ++r)
          for (unsigned i = 0; i < 2; ++i)
            c[2 * h + column] += half_of(of_row.a[h + 2 * r], i) * half_of(of_column.b[r], i);
    }
  }
}

/// ldmatrix.x4: lane 8 m + r says where row r of matrix m is, 8 numbers. Lane 4 g + t gets numbers 2 t and 2 t + 1 of
/// row g of each matrix; transposed, of column g.
inline void load_matrices(std::uint32_t (&to)[4], void const* row, bool transposed) {
  auto const at = static_cast<std::byte const*>(row);
  if (reinterpret_cast<std::uintptr_t>(at) % 16 != 0) refuse("a matrix's row is not where a multiple of 16 bytes is");
  if (at < shared || at + 16 > shared + sizeof shared) refuse("a matrix's row is not in shared memory");
  given_by_lanes const all(collective::load, at);
  unsigned const lane = block::current().running() % 32, g = lane / 4, t = lane % 4;
  for (unsigned m = 0; m < 4; ++m)
    for (unsigned i = 0; i < 2; ++i) {
      std::byte const* const from = transposed ? all.from<std::byte const*>(8 * m + 2 * t + i) + 2 * g
                                               : all.from<std::byte const*>(8 * m + g) + 2 * (2 * t + i);
      std::uint16_t number;
      std::memcpy(&number, from, sizeof number);
      to[m] = i == 0 ? number : to[m] | std::uint32_t{number} << 16;
    }
}

/// cp.async of 4, 8 or 16 bytes, of which the first `there` are copied and the rest are zeros. It comes about as late
/// as it may, when its thread waits for its group; until then the place is poisoned.
struct copies {
  struct one {
    void* to;
    void const* from;
    std::size_t bytes, there;
  };
  std::deque<std::deque<one>> groups;
  std::deque<one> open;
};
inline copies& copies_of_thread() {
  static copies of[1024];
  return of[block::current().running()];
}
inline void copy_async(void* to, void const* from, std::size_t bytes, std::size_t there) {
  auto const at = static_cast<std::byte*>(to);
  if (at < shared || at + bytes > shared + sizeof shared) refuse("an asynchronous copy is not to shared memory");
  if (reinterpret_cast<std::uintptr_t>(to) % bytes != 0 || reinterpret_cast<std::uintptr_t>(from) % bytes != 0)
    refuse("an asynchronous copy is not from and to multiples of its bytes");
  std::memset(to, 0xff, bytes);  // NaN
  copies_of_thread().open.push_back({to, from, bytes, there});
}
inline void close_copies() {
  auto& mine = copies_of_thread();
  mine.groups.push_back(std::exchange(mine.open, {}));
}
inline void wait_for_copies(std::size_t but_newest) {
  auto& mine = copies_of_thread();
  for (; mine.groups.size() > but_newest; mine.groups.pop_front())
    for (auto const& each : mine.groups.front()) {
      std::memset(each.to, 0, each.bytes);
      std::memcpy(each.to, each.from, each.there);
    }
}

}  // namespace cuda_on_host
