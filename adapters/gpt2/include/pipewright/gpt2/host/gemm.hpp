// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

#include <cblas.h>

extern "C" __attribute__((weak)) void openblas_set_num_threads(int);
extern "C" __attribute__((weak)) char* openblas_get_corename();

namespace pipewright::inline v0::gpt2::host {

/// One BLAS thread a rank: the ranks are the parallelism, and results stay the same bits. Harmless to repeat;
/// does nothing where the CBLAS is not OpenBLAS.
inline void use_one_blas_thread() {
  [[maybe_unused]] static bool const once = [] {
    if (openblas_set_num_threads != nullptr) openblas_set_num_threads(1);
    return true;
  }();
}

/// As which processor OpenBLAS knows this one; empty where the CBLAS is another.
inline auto blas_core() -> std::string_view { return openblas_get_corename == nullptr ? "" : openblas_get_corename(); }

/// What to set in the environment, NAME=VALUE, where OpenBLAS does not know this processor, newer than itself, and so takes kernels of
/// 2004, half as fast in a training; empty where it knows it. cmake/setup.sh has the same rule for this repository's own commands.
inline auto faster_blas(std::string_view core = blas_core()) -> std::string_view {
#ifdef __x86_64__
  if (core != "Prescott") return {};
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) return "OPENBLAS_CORETYPE=SkylakeX";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "OPENBLAS_CORETYPE=Haswell";
#endif
  return {};
}

/// A row-major matrix in memory: its first element and the distance between rows, as stored or read transposed.
struct matrix {
  float const* data;
  int stride;
  bool transposed = false;
};

/// The same matrix read transposed.
[[nodiscard]] constexpr auto transpose(matrix m) noexcept -> matrix { return {m.data, m.stride, !m.transposed}; }

/// c = alpha * a b + beta * c for a of m x k and b of k x n, c row-major with `stride` between rows. 2mnk operations.
inline void gemm(int m, int n, int k, float alpha, matrix a, matrix b, float beta, float* c, int stride) {
  cblas_sgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans, b.transposed ? CblasTrans : CblasNoTrans, m, n,
              k, alpha, a.data, a.stride, b.data, b.stride, beta, c, stride);
}

}  // namespace pipewright::inline v0::gpt2::host
