// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cblas.h>

extern "C" __attribute__((weak)) void openblas_set_num_threads(int);

namespace pipewright::inline v0::gpt2::host {

/// One BLAS thread a rank: the ranks are the parallelism, and results stay the same bits. Harmless to repeat;
/// does nothing where the CBLAS is not OpenBLAS.
inline void use_one_blas_thread() {
  [[maybe_unused]] static bool const once = [] {
    if (openblas_set_num_threads != nullptr) openblas_set_num_threads(1);
    return true;
  }();
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
