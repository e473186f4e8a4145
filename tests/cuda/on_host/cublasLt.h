// SPDX-License-Identifier: Apache-2.0
#pragma once
// What of cuBLASLt the library uses, over the host's CBLAS: matrices by columns, fp32 sums, results rounded once. Stricter than
// NVIDIA's: what cublasLt.h does not allow, or does not promise, is refused.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <vector>

#include <cblas.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

enum cublasStatus_t { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_INVALID_VALUE = 7, CUBLAS_STATUS_NOT_SUPPORTED = 15 };
inline char const* cublasLtGetStatusString(cublasStatus_t code) {
  return code == CUBLAS_STATUS_INVALID_VALUE ? "an unsupported value or parameter was passed to the function"
                                             : "the functionality requested is not supported";
}
enum cudaDataType_t { CUDA_R_32F = 0, CUDA_R_16BF = 14 };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F = 68 };
enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 };
enum cublasLtEpilogue_t {
  CUBLASLT_EPILOGUE_DEFAULT = 1,
  CUBLASLT_EPILOGUE_BIAS = 4,
  CUBLASLT_EPILOGUE_GELU_AUX_BIAS = 32 | 128 | 4,
  CUBLASLT_EPILOGUE_DGELU = 64 | 128,
  CUBLASLT_EPILOGUE_BGRADA = 256
};
enum cublasLtMatmulDescAttributes_t {
  CUBLASLT_MATMUL_DESC_TRANSA = 3,
  CUBLASLT_MATMUL_DESC_TRANSB = 4,
  CUBLASLT_MATMUL_DESC_EPILOGUE = 7,
  CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8,
  CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER = 11,
  CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD = 12,
  CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE = 26
};
enum cublasLtMatmulPreferenceAttributes_t {
  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1,
  CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8
};
enum cublasLtReductionScheme_t { CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2 };

namespace cuda_on_host {

struct lt_operation {
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtEpilogue_t then = CUBLASLT_EPILOGUE_DEFAULT;
  void const* row = nullptr;
  std::int32_t of_row = -1;
  void* matrix = nullptr;
  std::int64_t matrix_stride = 0;

  bool has_row() const { return then != CUBLASLT_EPILOGUE_DEFAULT && then != CUBLASLT_EPILOGUE_DGELU; }
  bool has_matrix() const { return then == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || then == CUBLASLT_EPILOGUE_DGELU; }
};
struct lt_layout {
  cudaDataType_t type;
  std::uint64_t rows, columns;
  std::int64_t stride;

  std::size_t bytes() const { return static_cast<std::size_t>(stride) * columns * (type == CUDA_R_32F ? 4 : 2); }
};
struct lt_preference {
  std::uint64_t workspace = 0;
  std::uint32_t reductions = 7, alignments[4] = {256, 256, 256, 256};  // of a, b, c, d
};
inline int lt_ways = 2;                  // that the heuristic finds
inline int lt_broken = 0;                // so many of them, the first ones, do not run
inline bool lt_fuses = true;             // whether it finds some for GELU and sums
inline int lt_fused_works = 1;           // that such a product takes
inline std::size_t lt_products = 0;      // so far
inline std::size_t lt_fused = 0;         // with GELU or sums
inline std::uint32_t lt_reductions = 0;  // what was allowed last

inline bool is_multiple(void const* at, std::size_t of) { return reinterpret_cast<std::uintptr_t>(at) % of == 0; }
inline bool overlap(void const* a, std::size_t a_bytes, void const* b, std::size_t b_bytes) {
  auto const x = reinterpret_cast<std::uintptr_t>(a), y = reinterpret_cast<std::uintptr_t>(b);
  return x < y + b_bytes && y < x + a_bytes;
}
inline float gelu_share(float x) { return 1.f / (1.f + std::exp(-1.5957691216f * (x + 0.044715f * x * x * x))); }
inline float gelu_slope(float x) {
  float const s = gelu_share(x);
  return s + x * s * (1.f - s) * 1.5957691216f * (1.f + 3.f * 0.044715f * x * x);
}

inline float read(void const* at, cudaDataType_t type, std::size_t i) {
  return type == CUDA_R_32F ? static_cast<float const*>(at)[i]
                            : __bfloat162float(static_cast<__nv_bfloat16 const*>(at)[i]);
}
inline std::vector<float> all_of(void const* at, lt_layout const& of) {
  std::vector<float> made(of.rows * of.columns);
  for (std::uint64_t j = 0; j < of.columns; ++j)
    for (std::uint64_t i = 0; i < of.rows; ++i)
      made[j * of.rows + i] = read(at, of.type, j * static_cast<std::uint64_t>(of.stride) + i);
  return made;
}
inline void write(void* at, cudaDataType_t type, std::size_t i, float v) {
  if (type == CUDA_R_32F) static_cast<float*>(at)[i] = v;
  else static_cast<__nv_bfloat16*>(at)[i] = __float2bfloat16_rn(v);
}
inline void multiply(lt_operation const& what, void const* a, lt_layout const& of_a, void const* b,
                     lt_layout const& of_b, float alpha, float beta, void const* c, void* d, lt_layout const& of_d) {
  auto const left = all_of(a, of_a), right = all_of(b, of_b);
  auto sum = beta == 0 ? std::vector<float>(of_d.rows * of_d.columns) : all_of(c, of_d);
  auto const m = static_cast<int>(of_d.rows), n = static_cast<int>(of_d.columns),
             k = static_cast<int>(what.a == CUBLAS_OP_N ? of_a.columns : of_a.rows);
  cblas_sgemm(CblasColMajor, what.a == CUBLAS_OP_N ? CblasNoTrans : CblasTrans,
              what.b == CUBLAS_OP_N ? CblasNoTrans : CblasTrans, m, n, k, alpha, left.data(),
              static_cast<int>(of_a.rows), right.data(), static_cast<int>(of_b.rows), beta, sum.data(), m);
  for (std::uint64_t j = 0; j < of_d.columns; ++j)
    for (std::uint64_t i = 0; i < of_d.rows; ++i) {
      float v = sum[j * of_d.rows + i];
      auto const of_matrix = j * static_cast<std::uint64_t>(what.matrix_stride) + i;
      if (what.then == CUBLASLT_EPILOGUE_BIAS || what.then == CUBLASLT_EPILOGUE_GELU_AUX_BIAS)
        v += read(what.row, of_d.type, i);
      if (what.then == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) {
        write(what.matrix, of_d.type, of_matrix, v);
        v *= gelu_share(v);
      }
      if (what.then == CUBLASLT_EPILOGUE_DGELU) v *= gelu_slope(read(what.matrix, of_d.type, of_matrix));
      write(d, of_d.type, j * static_cast<std::uint64_t>(of_d.stride) + i, v);
    }
  if (what.then == CUBLASLT_EPILOGUE_BGRADA)
    for (std::uint64_t i = 0; i < of_a.rows; ++i) {
      float all = 0;
      for (std::uint64_t j = 0; j < of_a.columns; ++j) all += left[j * of_a.rows + i];
      write(const_cast<void*>(what.row), of_d.type, i, all);
    }
}

}  // namespace cuda_on_host

using cublasLtHandle_t = int*;
using cublasLtMatmulDesc_t = cuda_on_host::lt_operation*;
using cublasLtMatrixLayout_t = cuda_on_host::lt_layout*;
using cublasLtMatmulPreference_t = cuda_on_host::lt_preference*;
struct cublasLtMatmulAlgo_t {
  int number;
  cublasLtEpilogue_t then;
  cuda_on_host::lt_preference wants;
  std::size_t row_alignment;
};
struct cublasLtMatmulHeuristicResult_t {
  cublasLtMatmulAlgo_t algo;
  std::size_t workspaceSize;
  cublasStatus_t state;
};

inline cublasStatus_t cublasLtCreate(cublasLtHandle_t* made) {
  *made = new int(0);
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtDestroy(cublasLtHandle_t of) {
  delete of;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* made, cublasComputeType_t, cudaDataType_t) {
  *made = new cuda_on_host::lt_operation;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t of) {
  delete of;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t of, cublasLtMatmulDescAttributes_t what,
                                                     void const* value, std::size_t bytes) {
  auto const set = [&](auto& to) {
    if (bytes != sizeof to) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&to, value, sizeof to);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (what) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(of->a);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(of->b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(of->then);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(of->row);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return set(of->of_row);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return set(of->matrix);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return set(of->matrix_stride);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
inline cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* made, cudaDataType_t type, std::uint64_t rows,
                                                 std::uint64_t columns, std::int64_t stride) {
  *made = new cuda_on_host::lt_layout{type, rows, columns, stride};
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t of) {
  delete of;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* made) {
  *made = new cuda_on_host::lt_preference;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t of) {
  delete of;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t of,
                                                           cublasLtMatmulPreferenceAttributes_t what, void const* value,
                                                           std::size_t bytes) {
  auto const set = [&](auto& to) {
    if (bytes != sizeof to) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&to, value, sizeof to);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (what) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(of->workspace);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(of->reductions);
    default: return set(of->alignments[what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES]);
  }
}
namespace cuda_on_host {

/// Whether an operation fits its matrices: what does not is wrong, what cuBLASLt may not have is not supported.
inline cublasStatus_t lt_check(lt_operation const& what, lt_layout const& a, lt_layout const& b, lt_layout const& c,
                               lt_layout const& d) {
  auto const rows = [](cublasOperation_t how, lt_layout const& of) {
    return how == CUBLAS_OP_N ? of.rows : of.columns;
  };
  auto const columns = [](cublasOperation_t how, lt_layout const& of) {
    return how == CUBLAS_OP_N ? of.columns : of.rows;
  };
  if (rows(what.a, a) != d.rows || columns(what.b, b) != d.columns || columns(what.a, a) != rows(what.b, b) ||
      a.type != b.type || c.type != d.type || c.rows != d.rows || c.columns != d.columns)
    return CUBLAS_STATUS_INVALID_VALUE;
  std::size_t const element = d.type == CUDA_R_32F ? 4 : 2;
  if (what.has_row() && (what.row == nullptr || !is_multiple(what.row, element) ||
                         (what.of_row != -1 && what.of_row != static_cast<std::int32_t>(d.type))))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (what.has_matrix() && (what.matrix == nullptr || !is_multiple(what.matrix, 16) || what.matrix_stride % 8 != 0 ||
                            what.matrix_stride < static_cast<std::int64_t>(d.rows)))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (what.then == CUBLASLT_EPILOGUE_BGRADA && what.a != CUBLAS_OP_N) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (a.type == CUDA_R_32F && d.type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (!lt_fuses && what.then != CUBLASLT_EPILOGUE_DEFAULT && what.then != CUBLASLT_EPILOGUE_BIAS)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}
/// The largest power of two, up to 256.
inline std::size_t alignment_of(void const* at) {
  std::size_t of = 256;
  while (!is_multiple(at, of)) of /= 2;
  return of;
}

}  // namespace cuda_on_host

inline cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t what,
                                                     cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                     cublasLtMatmulPreference_t wants, int most,
                                                     cublasLtMatmulHeuristicResult_t found[], int* count) {
  if (auto const code = cuda_on_host::lt_check(*what, *a, *b, *c, *d); code != CUBLAS_STATUS_SUCCESS) return code;
  cuda_on_host::lt_reductions = wants->reductions;
  *count = std::min(most, cuda_on_host::lt_ways);
  for (int i = 0; i < *count; ++i)
    found[i] = {{i + 1, what->then, *wants, cuda_on_host::alignment_of(what->row)}, 0, CUBLAS_STATUS_SUCCESS};
  return CUBLAS_STATUS_SUCCESS;
}
/// Refuses an algorithm that is another operation's or was to have better aligned matrices, and results that lie on one another.
inline cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t what, void const* alpha, void const* a,
                                     cublasLtMatrixLayout_t of_a, void const* b, cublasLtMatrixLayout_t of_b,
                                     void const* beta, void const* c, cublasLtMatrixLayout_t of_c, void* d,
                                     cublasLtMatrixLayout_t of_d, cublasLtMatmulAlgo_t const* by, void* workspace,
                                     std::size_t workspace_bytes, cudaStream_t on) {
  using namespace cuda_on_host;
  if (by == nullptr || by->number == 0 || by->then != what->then) return CUBLAS_STATUS_INVALID_VALUE;
  if (auto const code = lt_check(*what, *of_a, *of_b, *of_c, *of_d); code != CUBLAS_STATUS_SUCCESS) return code;
  if (by->number <= lt_broken) return CUBLAS_STATUS_NOT_SUPPORTED;
  void const* const all[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (!is_multiple(all[i], by->wants.alignments[i])) return CUBLAS_STATUS_INVALID_VALUE;
  if (what->has_row() && !is_multiple(what->row, std::min<std::size_t>(by->row_alignment, 16)))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!is_multiple(workspace, 256) || workspace_bytes < by->wants.workspace) return CUBLAS_STATUS_INVALID_VALUE;
  if (overlap(a, of_a->bytes(), d, of_d->bytes()) || overlap(b, of_b->bytes(), d, of_d->bytes()) ||
      (c != d && overlap(c, of_c->bytes(), d, of_d->bytes())))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (what->has_matrix() && overlap(what->matrix, of_d->bytes(), d, of_d->bytes())) return CUBLAS_STATUS_INVALID_VALUE;
  bool const fused = what->then != CUBLASLT_EPILOGUE_DEFAULT && what->then != CUBLASLT_EPILOGUE_BIAS;
  std::lock_guard lock(mutex);
  if (use(on, {a, b, c, d, workspace, what->row, what->matrix}) != cudaSuccess) return CUBLAS_STATUS_INVALID_VALUE;
  ++lt_products;
  lt_fused += fused;
  enqueue(on, [=, what = *what, of_a = *of_a, of_b = *of_b, of_d = *of_d, alpha = *static_cast<float const*>(alpha),
               beta = *static_cast<float const*>(beta)] { multiply(what, a, of_a, b, of_b, alpha, beta, c, d, of_d); });
  for (int i = 1; fused && i < lt_fused_works; ++i) enqueue(on, [] {});
  return CUBLAS_STATUS_SUCCESS;
}
