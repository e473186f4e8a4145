// SPDX-License-Identifier: Apache-2.0
#pragma once
// What FlashAttention-2's kernels are written with: rows of a head in shared memory, and a warp's products with them. A
// block has rows of its own, queries or keys, in registers, 16 or 32 a warp; the rows of the other side come by, 64 at
// a time.

#include <cstddef>
#include <cstdint>

#include <pipewright/gpt2_cuda/attention_head.cuh>
#include <pipewright/gpt2_cuda/tensor_core.cuh>

namespace pipewright::inline v0::gpt2::cuda::detail {

using tensor_core::left;
using tensor_core::sums;

inline constexpr int flash_threads = 128, flash_warps = flash_threads / lanes;
inline constexpr int others = 64;  // rows of the other side that a block has at once
template<int D> inline constexpr std::size_t bytes_of_others = sizeof(bf16) * others * D;

/// How a kernel's work on heads of up to D numbers is cut, D a multiple of 16: `Tiles` of 16 rows a warp, which what it
/// reads of the other side serves, and `Some` rows of the other side at a time. Both by registers: with 255 a thread,
/// two blocks share an SM.
template<int D, int Tiles, int Some> struct flash_cut {
  static constexpr int tiles = Tiles, some = Some;
  static constexpr int rows_of_warp = 16 * tiles, rows = flash_warps * rows_of_warp;
  static constexpr std::size_t bytes_of_rows = sizeof(bf16) * rows * D;
  static_assert(others % some == 0);
};

/// threadIdx.x, read anew: what a thread makes of it costs no registers where it is not used.
__device__ inline unsigned thread_again() {
#ifdef __CUDACC__
  unsigned thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
#else
  return threadIdx.x;
#endif
}

struct lane_at {
  unsigned thread = threadIdx.x;
  int warp = static_cast<int>(thread / lanes), lane = static_cast<int>(thread % lanes);
  int g = lane / 4, t = lane % 4;  // the lane's rows and columns of fragments: see tensor_core.cuh
};

/// The memory that a launch asked for, all of whose banks begin where it does.
__device__ inline bf16* flash_memory() {
#ifdef __CUDACC__
  extern __shared__ __align__(128) std::byte pipewright_flash_shared[];
  return reinterpret_cast<bf16*>(pipewright_flash_shared);
#else
  return shared_memory<bf16>();
#endif
}

/// Rows of D numbers in shared memory. A row's pieces of 16 bytes change places, so that those which stand in one
/// column of 8 rows lie in different banks: what ldmatrix reads at once, and what a fragment writes.
template<int D> struct flash_rows {
  bf16* at;

  static constexpr int pieces = D / 8;
  __device__ static constexpr unsigned place(unsigned row, unsigned piece) {
    constexpr unsigned rows_of_banks = D < 64 ? 64 / D : 1, places = pieces < 8 ? pieces : 8;
    return row * D + 8 * (piece ^ (row / rows_of_banks % places));
  }

  /// Begins to copy the rows from `first` on, by all threads; zeros beyond the sequence and the head's size.
  template<int Rows> __device__ void fetch(bf16 const* from, std::size_t stride, int first, int length,
                                           int size) const {
    constexpr unsigned at_once = flash_threads / pieces;
    unsigned const thread = thread_again(), piece = thread % pieces, start = thread / pieces;
    unsigned const there = first < length ? static_cast<unsigned>(length - first) : 0;
    bool const is_column = 8 * piece < static_cast<unsigned>(size);
    auto away = (static_cast<unsigned>(first) + start) * stride + 8 * piece;
    PIPEWRIGHT_UNROLL
    for (unsigned row = start; row < start + Rows; row += at_once, away += at_once * stride) {
      if (Rows % at_once != 0 && row >= Rows) break;
      bool const is_there = is_column && row < there;
      tensor_core::copy_async<16>(at + place(row, piece), from + (is_there ? away : 0), is_there);
    }
  }

  /// Where this lane's row is of four matrices, together 16 x 16 numbers from there on, multiples of 16. `down`:
  /// matrices below one another come first, as a left side has them, and a right side transposed; or else side by side,
  /// as a right side of rows.
  template<bool Down> __device__ tensor_core::shared_at of_lane(int row, int column) const {
    unsigned const lane = threadIdx.x % lanes, below = Down ? lane / 8 % 2 : lane / 16,
                   beside = Down ? lane / 16 : lane / 8 % 2;
    auto const first = tensor_core::address_of(at + row * D + place(lane % 8 + 8 * below, beside));
    // Columns that change places; `at` is at a multiple of their 128 bytes, so that the exclusive or stays within them.
    constexpr int in_banks = 64;
    return (first ^ static_cast<unsigned>(column % in_banks * 2)) +
           static_cast<unsigned>(column / in_banks * in_banks * 2);
  }
};

/// to = a b^T, b the rows from `first` on: all products of a's rows and b's.
template<int M, int N, int K, int D>
__device__ void multiply_rows(sums (&to)[M][N], left const (&a)[M][K], flash_rows<D> b, int first) {
  static_assert(16 * K == D && N % 2 == 0);
  PIPEWRIGHT_UNROLL
  for (int k = 0; k < K; ++k) {
    PIPEWRIGHT_UNROLL
    for (int n = 0; n < N; n += 2) {
      auto const four = tensor_core::load_matrices(b.template of_lane<false>(first + 8 * n, 16 * k));
      PIPEWRIGHT_UNROLL
      for (int m = 0; m < M; ++m) {
        PIPEWRIGHT_UNROLL
        for (int i = 0; i < 2; ++i)  // a start of zeros takes no registers
          to[m][n + i] =
              multiply_add(a[m][k], four.numbers[2 * i], four.numbers[2 * i + 1], k == 0 ? sums{} : to[m][n + i]);
      }
    }
  }
}
/// to += a b, b the rows from `first` on: their sums with a's weights.
template<int M, int N, int K, int D>
__device__ void add_weighted_rows(sums (&to)[M][N], left const (&a)[M][K], flash_rows<D> b, int first) {
  static_assert(8 * N == D);
  PIPEWRIGHT_UNROLL
  for (int k = 0; k < K; ++k) {
    PIPEWRIGHT_UNROLL
    for (int n = 0; n < N; n += 2) {
      auto const four = tensor_core::load_transposed(b.template of_lane<true>(first + 16 * k, 8 * n));
      PIPEWRIGHT_UNROLL
      for (int m = 0; m < M; ++m) {
        PIPEWRIGHT_UNROLL
        for (int i = 0; i < 2; ++i)
          to[m][n + i] = multiply_add(a[m][k], four.numbers[2 * i], four.numbers[2 * i + 1], to[m][n + i]);
      }
    }
  }
}

template<int M, int N> __device__ void multiply(sums (&of)[M][N], float by) {
  PIPEWRIGHT_UNROLL
  for (int m = 0; m < M; ++m) {
    PIPEWRIGHT_UNROLL
    for (int n = 0; n < N; ++n)
      for (float& each : of[m][n].numbers) each *= by;
  }
}
/// Sums, rounded, as the left side of the next product: a lane has the same rows and columns of both.
template<int M, int N> __device__ void round_to_left(sums const (&from)[M][N], left (&to)[M][N / 2]) {
  PIPEWRIGHT_UNROLL
  for (int m = 0; m < M; ++m) {
    PIPEWRIGHT_UNROLL
    for (int n = 0; n < N; ++n) {
      auto const& v = from[m][n].numbers;
      to[m][n / 2].numbers[n % 2 * 2] = tensor_core::narrow_two(v[0], v[1]);
      to[m][n / 2].numbers[n % 2 * 2 + 1] = tensor_core::narrow_two(v[2], v[3]);
    }
  }
}

template<int M, int K, int D> __device__ void load_left(left (&to)[M][K], flash_rows<D> from, int first) {
  PIPEWRIGHT_UNROLL
  for (int m = 0; m < M; ++m) {
    PIPEWRIGHT_UNROLL
    for (int k = 0; k < K; ++k)
      to[m][k] = tensor_core::load_matrices(from.template of_lane<true>(first + 16 * m, 16 * k));
  }
}

/// Writes a warp's sums, rounded, to rows of a head: through its own rows of shared memory, so that they go 16 bytes at
/// a time. `row`: the warp's first in shared memory; `first`: in the sequence.
template<int M, int N, int D>
__device__ void write_sums(sums const (&from)[M][N], flash_rows<D> by, int row, bf16* to, std::size_t stride, int first,
                           int length, int size) {
  lane_at const l;
  PIPEWRIGHT_UNROLL
  for (int m = 0; m < M; ++m) {
    PIPEWRIGHT_UNROLL
    for (int n = 0; n < N; ++n) {
      PIPEWRIGHT_UNROLL
      for (int h = 0; h < 2; ++h)
        *reinterpret_cast<tensor_core::two*>(by.at + by.place(row + 16 * m + 8 * h + l.g, n) + 2 * l.t) =
            tensor_core::narrow_two(from[m][n].numbers[2 * h], from[m][n].numbers[2 * h + 1]);
    }
  }
  __syncwarp();
  for (int i = l.lane; i < 16 * M * by.pieces; i += lanes) {
    int const r = i / by.pieces, piece = i % by.pieces;
    if (first + r < length && 8 * piece < size)
      store(to + static_cast<std::size_t>(first + r) * stride + static_cast<std::size_t>(8 * piece),
            load<8>(by.at + by.place(row + r, piece)));
  }
}

inline constexpr float log2_of_e = 1.4426950408889634f;
inline constexpr float minus_infinity = -__builtin_huge_valf();

/// A warp's scores that are of a key after their query become -infinity: those from there on, queries as rows, or else
/// keys.
template<bool KeysAreRows, int M, int N>
__device__ void hide_later_keys(sums (&scores)[M][N], int first_query, int first_key) {
  lane_at const l{thread_again()};
  int const later = first_key - first_query + (KeysAreRows ? l.g - 2 * l.t : 2 * l.t - l.g);  // of the lane's first
  PIPEWRIGHT_UNROLL
  for (int m = 0; m < M; ++m) {
    PIPEWRIGHT_UNROLL
    for (int n = 0; n < N; ++n) {
      PIPEWRIGHT_UNROLL
      for (int i = 0; i < 4; ++i) {
        int const down = 16 * m + 8 * (i / 2), beside = 8 * n + i % 2;
        if (later > (KeysAreRows ? beside - down : down - beside)) scores[m][n].numbers[i] = minus_infinity;
      }
    }
  }
}

/// Which of the scores in a lane's sums dropout keeps.
template<bool Drops> struct flash_dropout {
  dropout mask;
  std::uint32_t limit;
  bool by_four;  // whether no random block has numbers of two rows of scores

  __device__ flash_dropout(device_dropout const& of, attention_shape s)
      : mask{Drops ? of.now() : dropout{}}, limit{Drops ? mask.threshold() : 0}, by_four{s.length % 4 == 0} {}

  /// Bit 2 h + i: whether numbers[2 h + i] is kept. Of scores from there on, multiples of 8; queries are the rows, or
  /// else keys. A random block is of four keys, which 2 lanes have, or 4: each makes one block of theirs for all.
  template<bool KeysAreRows> __device__ unsigned kept(head_at const& here, int query, int key) const {
    lane_at const l;
    unsigned bits = 0;
    if (by_four) {
      int const mine = KeysAreRows ? l.g % 4 : l.t % 2;
      auto const four = KeysAreRows ? block(here, query + 2 * l.t + mine % 2, key + 8 * (mine / 2) + l.g / 4 * 4)
                                    : block(here, query + 8 * mine + l.g, key + l.t / 2 * 4);
      unsigned all = 0;
      PIPEWRIGHT_UNROLL
      for (unsigned i = 0; i < 4; ++i) all |= static_cast<unsigned>(four[i] >= limit) << i;
      all <<= 4 * mine;
      if constexpr (KeysAreRows) {
        all |= __shfl_xor_sync(all_lanes, all, 4);
        all |= __shfl_xor_sync(all_lanes, all, 8);
        PIPEWRIGHT_UNROLL
        for (int k = 0; k < 4; ++k) bits |= (all >> (4 * k + mine) & 1) << k;
      } else {
        all |= __shfl_xor_sync(all_lanes, all, 1);
        all >>= 2 * mine;
        bits = (all & 3) | (all >> 2 & 12);
      }
    } else {
      PIPEWRIGHT_NO_UNROLL
      for (int k = 0; k < 4; ++k) {
        int const row = k / 2 * 8 + l.g, column = 2 * l.t + k % 2;
        auto const index = KeysAreRows ? here.score(query + column, key + row) : here.score(query + row, key + column);
        bits |= static_cast<unsigned>(mask.stream.bits(index) >= limit) << k;
      }
    }
    return bits;
  }
  __device__ float scale() const { return Drops ? mask.scale() : 1.f; }
  __device__ float factor(unsigned bits, int number) const { return bits >> number & 1 ? mask.scale() : 0.f; }

 private:
  __device__ auto block(head_at const& here, int query, int key) const {
    return mask.stream.four(here.score(query, key) / 4);
  }
};

}  // namespace pipewright::inline v0::gpt2::cuda::detail
