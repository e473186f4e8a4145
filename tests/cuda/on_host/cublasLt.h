// SPDX-License-Identifier: Apache-2.0
#pragma once
// What of cuBLASLt the library uses, over the host's CBLAS: matrices by columns, fp32 sums, results rounded once.
#include <algorithm>
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
enum cublasLtEpilogue_t { CUBLASLT_EPILOGUE_DEFAULT = 1, CUBLASLT_EPILOGUE_BIAS = 4 };
enum cublasLtMatmulDescAttributes_t {
  CUBLASLT_MATMUL_DESC_TRANSA = 3,
  CUBLASLT_MATMUL_DESC_TRANSB = 4,
  CUBLASLT_MATMUL_DESC_EPILOGUE = 7,
  CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8,
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
  void const* bias = nullptr;
  cudaDataType_t of_bias = CUDA_R_32F;
};
struct lt_layout {
  cudaDataType_t type;
  std::uint64_t rows, columns;
  std::int64_t stride;
};
inline int lt_ways = 2;              // that the heuristic finds
inline std::size_t lt_products = 0;  // so far

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
      if (what.then == CUBLASLT_EPILOGUE_BIAS) v += read(what.bias, what.of_bias, i);
      auto const at = j * static_cast<std::uint64_t>(of_d.stride) + i;
      if (of_d.type == CUDA_R_32F) static_cast<float*>(d)[at] = v;
      else static_cast<__nv_bfloat16*>(d)[at] = __float2bfloat16_rn(v);
    }
}

}  // namespace cuda_on_host

using cublasLtHandle_t = int*;
using cublasLtMatmulDesc_t = cuda_on_host::lt_operation*;
using cublasLtMatrixLayout_t = cuda_on_host::lt_layout*;
using cublasLtMatmulPreference_t = int*;
struct cublasLtMatmulAlgo_t {
  int number;
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
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(of->bias);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return set(of->of_bias);
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
  *made = new int(0);
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t of) {
  delete of;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                           cublasLtMatmulPreferenceAttributes_t, void const*,
                                                           std::size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
/// Refuses factors and results that do not fit together.
inline cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t what,
                                                     cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                     cublasLtMatmulPreference_t, int most,
                                                     cublasLtMatmulHeuristicResult_t found[], int* count) {
  auto const rows = [](cublasOperation_t how, cublasLtMatrixLayout_t of) {
    return how == CUBLAS_OP_N ? of->rows : of->columns;
  };
  auto const columns = [](cublasOperation_t how, cublasLtMatrixLayout_t of) {
    return how == CUBLAS_OP_N ? of->columns : of->rows;
  };
  if (rows(what->a, a) != d->rows || columns(what->b, b) != d->columns || columns(what->a, a) != rows(what->b, b) ||
      a->type != b->type || c->type != d->type || c->rows != d->rows || c->columns != d->columns)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (a->type == CUDA_R_32F && d->type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *count = std::min(most, cuda_on_host::lt_ways);
  for (int i = 0; i < *count; ++i) found[i] = {{i + 1}, 0, CUBLAS_STATUS_SUCCESS};
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t what, void const* alpha, void const* a,
                                     cublasLtMatrixLayout_t of_a, void const* b, cublasLtMatrixLayout_t of_b,
                                     void const* beta, void const* c, cublasLtMatrixLayout_t, void* d,
                                     cublasLtMatrixLayout_t of_d, cublasLtMatmulAlgo_t const* by, void* room,
                                     std::size_t, cudaStream_t on) {
  if (by == nullptr || by->number == 0) return CUBLAS_STATUS_INVALID_VALUE;
  std::lock_guard lock(cuda_on_host::mutex);
  if (cuda_on_host::use(on, {a, b, c, d, room, what->bias}) != cudaSuccess) return CUBLAS_STATUS_INVALID_VALUE;
  ++cuda_on_host::lt_products;
  cuda_on_host::enqueue(on, [=, what = *what, of_a = *of_a, of_b = *of_b, of_d = *of_d,
                             alpha = *static_cast<float const*>(alpha), beta = *static_cast<float const*>(beta)] {
    cuda_on_host::multiply(what, a, of_a, b, of_b, alpha, beta, c, d, of_d);
  });
  return CUBLAS_STATUS_SUCCESS;
}
