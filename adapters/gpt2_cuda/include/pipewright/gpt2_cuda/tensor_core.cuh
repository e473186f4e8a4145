// SPDX-License-Identifier: Apache-2.0
#pragma once
// The instructions of tensor cores and of what feeds them, sm_80 and later, as functions for a warp at once. Who has
// which numbers is as the PTX ISA draws it (mma.m16n8k16, ldmatrix): of lane 4 g + t, 0 <= t < 4.

#include <cmath>
#include <cstdint>

#include <pipewright/gpt2_cuda/device.cuh>
#ifndef __CUDACC__
#include <tensor_core_on_host.h>
#endif

/// Loops over arrays in registers must be unrolled: a register has no index. Others had better not be.
#ifdef __CUDACC__
#define PIPEWRIGHT_UNROLL _Pragma("unroll")
#define PIPEWRIGHT_NO_UNROLL _Pragma("unroll 1")
#else
#define PIPEWRIGHT_UNROLL
#define PIPEWRIGHT_NO_UNROLL
#endif

namespace pipewright::inline v0::gpt2::cuda::tensor_core {

/// Two neighbours in bf16, the first in the lower half.
using two = std::uint32_t;

/// Four 8 x 8 matrices, of each numbers 2 t and 2 t + 1 of row g.
struct matrices {
  two numbers[4];
};
/// A product's left side, 16 x 16: its matrices at the upper left, the lower left, the upper right and the lower right.
using left = matrices;
/// 16 x 8 sums: numbers[2 h + i] is of row g + 8 h, column 2 t + i.
struct sums {
  float numbers[4];
};

__device__ inline two narrow_two(float first, float second) {
#ifdef __CUDACC__
  two both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
#else
  return static_cast<two>(__float2bfloat16_rn(first).bits) | static_cast<two>(__float2bfloat16_rn(second).bits) << 16;
#endif
}
__device__ inline float first_of(two both) {
#ifdef __CUDACC__
  return __uint_as_float(both << 16);
#else
  return wide(bf16{static_cast<std::uint16_t>(both)});
#endif
}
__device__ inline float second_of(two both) {
#ifdef __CUDACC__
  return __uint_as_float(both & 0xffff0000);
#else
  return wide(bf16{static_cast<std::uint16_t>(both >> 16)});
#endif
}

/// 2^v, within two units in the last place.
__device__ inline float power_of_two(float v) {
#ifdef __CUDACC__
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(v));
  return power;
#else
  return std::exp2(v);
#endif
}

/// start + a b, b 16 x 8: `upper` has numbers 2 t and 2 t + 1 of its column g, `lower` those 8 further.
__device__ inline sums multiply_add(left const& a, two upper, two lower, sums const& start) {
  sums to = start;
#ifdef __CUDACC__
  auto const& c = start.numbers;
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, "
      "%12, %13};"
      : "=f"(to.numbers[0]), "=f"(to.numbers[1]), "=f"(to.numbers[2]), "=f"(to.numbers[3])
      : "r"(a.numbers[0]), "r"(a.numbers[1]), "r"(a.numbers[2]), "r"(a.numbers[3]), "r"(upper), "r"(lower), "f"(c[0]),
        "f"(c[1]), "f"(c[2]), "f"(c[3]));
#else
  cuda_on_host::multiply(to.numbers, a.numbers, upper, lower);
#endif
  return to;
}

/// Where something is in shared memory, as a number of bytes that may be reckoned with.
#ifdef __CUDACC__
using shared_at = std::uint32_t;
__device__ inline shared_at address_of(void const* at) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(at));
}
#else
using shared_at = std::uintptr_t;
inline shared_at address_of(void const* at) { return reinterpret_cast<shared_at>(at); }
#endif

/// Matrices of 8 rows of 16 bytes in shared memory: lane 8 m + r says where row r of matrix m is.
__device__ inline matrices load_matrices(shared_at row) {
  matrices all;
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(all.numbers[0]), "=r"(all.numbers[1]), "=r"(all.numbers[2]), "=r"(all.numbers[3])
               : "r"(row));
#else
  cuda_on_host::load_matrices(all.numbers, reinterpret_cast<void const*>(row), false);
#endif
  return all;
}
/// The same, each matrix transposed.
__device__ inline matrices load_transposed(shared_at row) {
  matrices all;
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(all.numbers[0]), "=r"(all.numbers[1]), "=r"(all.numbers[2]), "=r"(all.numbers[3])
               : "r"(row));
#else
  cuda_on_host::load_matrices(all.numbers, reinterpret_cast<void const*>(row), true);
#endif
  return all;
}

/// to = from, of 8 or 16 bytes, both at a multiple of them, or zeros where `is_there` is false: in the background, into
/// shared memory.
template<int Bytes> __device__ void copy_async(void* to, void const* from, bool is_there) {
  static_assert(Bytes == 8 || Bytes == 16);
#ifdef __CUDACC__
  int const there = is_there ? Bytes : 0;
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address_of(to)), "l"(from), "r"(there)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(address_of(to)), "l"(from), "r"(there)
                 : "memory");
#else
  cuda_on_host::copy_async(to, from, Bytes, is_there ? Bytes : 0);
#endif
}
/// What this thread has begun to copy since the last call is a group.
__device__ inline void close_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  cuda_on_host::close_copies();
#endif
}
/// Until this thread's groups but the newest so many are there. For other threads' a barrier must follow.
template<int ButNewest> __device__ void wait_for_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(ButNewest) : "memory");
#else
  cuda_on_host::wait_for_copies(ButNewest);
#endif
}

}  // namespace pipewright::inline v0::gpt2::cuda::tensor_core
