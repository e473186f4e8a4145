// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <cublasLt.h>
#include <cuda_bf16.h>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/fastest.hpp>
#include <pipewright/cuda/memory.hpp>

namespace pipewright::inline v0::cuda {

/// c = a b: a is m x k, b is k x n, c is m x n, row-major without gaps; a and b as stored, or stored transposed.
struct product {
  int m, n, k;
  bool a_transposed = false, b_transposed = false;

  friend bool operator==(product const&, product const&) = default;
};

/// What a product does besides, in its own kernel. Rows have n numbers, matrices m x n, all of the result's type C.
template<class C> struct epilogue {
  cublasLtEpilogue_t what = CUBLASLT_EPILOGUE_DEFAULT;
  C const* row = nullptr;     // read or written, as is `matrix`: cuBLASLt has one attribute for both
  C const* matrix = nullptr;  // apart from the result: cuBLASLt promises nothing of where they are one

  /// c = a b + row.
  static epilogue bias(C const* row) { return {CUBLASLT_EPILOGUE_BIAS, row, nullptr}; }
  /// before = a b + row, c = gelu(a b + row), in GELU's tanh form, which is the one that cuBLASLt has.
  static epilogue gelu(C const* row, C* before) { return {CUBLASLT_EPILOGUE_GELU_AUX_BIAS, row, before}; }
  /// c = a b * gelu'(before), of the same form.
  static epilogue gelu_backward(C const* before) { return {CUBLASLT_EPILOGUE_DGELU, nullptr, before}; }
  /// sums[j] = the sum of b's column j, whatever c's beta; for b as stored.
  static epilogue column_sums(C* sums) { return {CUBLASLT_EPILOGUE_BGRADA, sums, nullptr}; }
};

/// Throws error with the call and its place where cuBLASLt refuses.
inline void check(cublasStatus_t status, std::string_view call,
                  std::source_location at = std::source_location::current()) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw error("pipewright: " + detail::place_of(call, at) + " failed: " + cublasLtGetStatusString(status));
}

namespace detail {

template<class T> inline constexpr cudaDataType_t type_of = CUDA_R_32F;
template<> inline constexpr cudaDataType_t type_of<__nv_bfloat16> = CUDA_R_16BF;

struct destroy {
  void operator()(cublasLtMatmulDesc_t of) const { cublasLtMatmulDescDestroy(of); }
  void operator()(cublasLtMatrixLayout_t of) const { cublasLtMatrixLayoutDestroy(of); }
  void operator()(cublasLtMatmulPreference_t of) const { cublasLtMatmulPreferenceDestroy(of); }
};
template<class Handle> using owned = std::unique_ptr<std::remove_pointer_t<Handle>, destroy>;
using operation = owned<cublasLtMatmulDesc_t>;
using layout = owned<cublasLtMatrixLayout_t>;
using preference = owned<cublasLtMatmulPreference_t>;

/// What one of cuBLASLt's functions makes.
template<class Handle> owned<Handle> made_by(std::string_view call, auto const& make) {
  Handle made = nullptr;
  check(make(&made), call);
  return owned<Handle>(made);
}

inline layout make_layout(cudaDataType_t type, int rows, int columns) {
  return made_by<cublasLtMatrixLayout_t>("cublasLtMatrixLayoutCreate", [&](auto* to) {
    return cublasLtMatrixLayoutCreate(to, type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns),
                                      rows);
  });
}

}  // namespace detail

/// How an algorithm is chosen for a product of sizes and types not met before.
enum class choice {
  by_rule,   ///< cuBLASLt's first: the same in every run and on every rank, so that results are the same bits
  by_timing  ///< the fastest of its first 32, each run a few times: some seconds at the start
};

/// Matrix products of a context by cuBLASLt, in fp32 arithmetic (bf16 on tensor cores): `context.kept<products>()`. What a product
/// of given sizes and types needs is made once. Sums have one order: a sum that is split is made of fp32 parts that a kernel of its
/// own adds up, never by turns or atomics.
class products {
 public:
  explicit products(context& where) : where_{where} { check(cublasLtCreate(&handle_), "cublasLtCreate"); }
  products(products const&) = delete;
  products& operator=(products const&) = delete;
  ~products() {
    plans_.clear();
    cublasLtDestroy(handle_);
  }

  /// For products not met before.
  void choose(choice how) { how_ = how; }
  choice chosen() const { return how_; }
  /// How many different ones there have been.
  std::size_t known() const { return plans_.size(); }

  /// Queues c = a b + beta c, and what the epilogue says. Throws error where cuBLASLt has no way to compute it. `beta` is 0 (what c
  /// held is not read) or 1.
  template<class T, class C> void operator()(product of, T const* a, T const* b, float beta, C* c,
                                             epilogue<std::type_identity_t<C>> const& also = {}) {
    if (!attempt(of, a, b, beta, c, also))
      throw error("pipewright: cuBLASLt has no way to multiply " + std::to_string(of.m) + " x " + std::to_string(of.k) +
                  " by " + std::to_string(of.k) + " x " + std::to_string(of.n) +
                  " here; choose sizes that are multiples of 8, or fp32");
  }
  /// The same; where cuBLASLt has no way it queues nothing, and is false. GELU's epilogues need an n that is a multiple of 8, and
  /// matrices at multiples of 16 bytes.
  template<class T, class C> bool attempt(product of, T const* a, T const* b, float beta, C* c,
                                          epilogue<std::type_identity_t<C>> const& also = {}) {
    if (of.m == 0 || of.n == 0) return true;
    key const which{of,
                    detail::type_of<T>,
                    detail::type_of<C>,
                    beta != 0,
                    also.what,
                    alignment<std::min(sizeof(T), sizeof(C))>(a, b, c),
                    alignment<sizeof(C)>(also.row, also.matrix)};
    auto found = std::ranges::find(plans_, which, &plan::of);
    if (found == plans_.end()) found = plans_.insert(plans_.end(), make(which, a, b, beta, c, also));
    if (found->how) run(*found, *found->how, a, b, beta, c, c, also);
    return found->how.has_value();
  }

 private:
  static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;  // what NVIDIA advises for Hopper

  struct key {
    product of;
    cudaDataType_t of_factors, of_result;
    bool adds;
    cublasLtEpilogue_t also;
    std::uint32_t alignment, alignment_of_also;

    friend bool operator==(key const&, key const&) = default;
  };
  /// With a name of its own: nvcc 13.0 breaks down over a vector of a struct that has none.
  struct way {
    cublasLtMatmulAlgo_t of{};
  };
  struct plan {
    key of;
    detail::operation what;
    detail::layout a, b, c;  // as cuBLASLt has them: by columns, so that the factors change places
    std::optional<way> how;  // none: it cannot be computed
  };

  /// What addresses are multiples of: 256 and 16 are what kernels ask for.
  template<std::uint32_t Least> static std::uint32_t alignment(auto const*... at) {
    auto const bits = (... | reinterpret_cast<std::uintptr_t>(at));
    return bits % 256 == 0 ? 256 : bits % 16 == 0 ? 16 : Least;
  }
  template<class Value> static void set(detail::operation& of, cublasLtMatmulDescAttributes_t what, Value value) {
    check(cublasLtMatmulDescSetAttribute(of.get(), what, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  }

  template<class T, class C> plan make(key const& of, T const* a, T const* b, float beta, C* c,
                                       epilogue<C> const& also) {
    product const p = of.of;
    plan made;
    made.of = of;
    made.what = detail::made_by<cublasLtMatmulDesc_t>("cublasLtMatmulDescCreate", [](auto* to) {
      return cublasLtMatmulDescCreate(to, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    });
    set(made.what, CUBLASLT_MATMUL_DESC_TRANSA, p.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(made.what, CUBLASLT_MATMUL_DESC_TRANSB, p.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(made.what, CUBLASLT_MATMUL_DESC_EPILOGUE, also.what);
    if (also.row != nullptr) set(made.what, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, of.of_result);
    if (also.matrix != nullptr) set(made.what, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::int64_t{p.n});
    point(made.what, also.row, also.matrix);  // whose alignment counts
    made.a =
        p.b_transposed ? detail::make_layout(of.of_factors, p.k, p.n) : detail::make_layout(of.of_factors, p.n, p.k);
    made.b =
        p.a_transposed ? detail::make_layout(of.of_factors, p.m, p.k) : detail::make_layout(of.of_factors, p.k, p.m);
    made.c = detail::make_layout(of.of_result, p.n, p.m);
    auto ways = ways_to(made, of);
    if (ways.empty()) return made;
    made.how = ways.front();
    if (how_ == choice::by_timing && ways.size() > 1 && !where_.writes_down())
      made.how = fastest_of(made, std::move(ways), a, b, beta, c, also);
    return made;
  }

  /// What cublasLt.h asks of epilogues; of BGRADA it says nothing, but libraries that use it give it no transposed factor.
  static bool is_possible(key const& which) {
    switch (which.also) {
      case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
      case CUBLASLT_EPILOGUE_DGELU: return which.of.n % 8 == 0 && which.alignment_of_also % 16 == 0;
      case CUBLASLT_EPILOGUE_BGRADA: return !which.of.b_transposed;
      default: return true;
    }
  }

  /// The best first.
  std::vector<way> ways_to(plan const& of, key const& which) {
    if (!is_possible(which)) return {};
    auto const wants = detail::made_by<cublasLtMatmulPreference_t>(
        "cublasLtMatmulPreferenceCreate", [](auto* to) { return cublasLtMatmulPreferenceCreate(to); });
    auto const want = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
      check(cublasLtMatmulPreferenceSetAttribute(wants.get(), what, &value, sizeof value),
            "cublasLtMatmulPreferenceSetAttribute");
    };
    want(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
    want(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    for (auto const what : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      want(what, which.alignment);
    cublasLtMatmulHeuristicResult_t found[32];
    int count = 0;
    auto const status =
        cublasLtMatmulAlgoGetHeuristic(handle_, of.what.get(), of.a.get(), of.b.get(), of.c.get(), of.c.get(),
                                       wants.get(), static_cast<int>(std::size(found)), found, &count);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
    if (status == CUBLAS_STATUS_INVALID_VALUE && which.also != CUBLASLT_EPILOGUE_DEFAULT) return {};  // older versions'
    check(status, "cublasLtMatmulAlgoGetHeuristic");
    std::vector<way> ways;
    for (auto const& each : std::span(found, static_cast<std::size_t>(count)))
      if (each.state == CUBLAS_STATUS_SUCCESS) ways.push_back({each.algo});
    return ways;
  }

  template<class T, class C> void run(plan& of, way const& by, T const* a, T const* b, float beta, C const* c, C* d,
                                      epilogue<C> const& also) {
    if (workspace_.size() == 0) workspace_.resize(workspace_bytes);
    queue("cublasLtMatmul", where_.stream(), &products::multiply, this, &of, by, static_cast<void const*>(a),
          static_cast<void const*>(b), beta, static_cast<void const*>(c), static_cast<void*>(d),
          static_cast<void const*>(also.row), static_cast<void const*>(also.matrix));
  }
  static cudaError_t multiply(cudaStream_t on, products* self, plan* of, way by, void const* a, void const* b,
                              float beta, void const* c, void* d, void const* row, void const* matrix) {
    point(of->what, row, matrix);
    float const alpha = 1;
    check(cublasLtMatmul(self->handle_, of->what.get(), &alpha, b, of->a.get(), a, of->b.get(), &beta, c, of->c.get(),
                         d, of->c.get(), &by.of, self->workspace_.data(), workspace_bytes, on),
          "cublasLtMatmul");
    return cudaSuccess;
  }
  static void point(detail::operation& of, void const* row, void const* matrix) {
    if (row != nullptr) set(of, CUBLASLT_MATMUL_DESC_BIAS_POINTER, row);
    if (matrix != nullptr) set(of, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, matrix);
  }

  /// Of those that run at all: the heuristic does not promise it. Into memory of its own, since c must be added to once; what the
  /// epilogue writes is written again.
  template<class T, class C> std::optional<way> fastest_of(plan& of, std::vector<way> ways, T const* a, T const* b,
                                                           float beta, C const* c, epilogue<C> const& also) {
    buffer<C> result;
    result.resize(static_cast<std::size_t>(of.of.of.m) * static_cast<std::size_t>(of.of.of.n));
    auto const once = [&](way const& by) { run(of, by, a, b, beta, c, result.data(), also); };
    std::erase_if(ways, [&](way const& by) {
      try {
        return once(by), false;
      } catch (error const&) {
        return true;
      }
    });
    if (ways.empty()) return {};
    return ways[fastest(where_, ways.size(), [&](std::size_t i) { once(ways[i]); })];
  }

  context& where_;
  cublasLtHandle_t handle_ = nullptr;
  choice how_ = choice::by_rule;
  std::deque<plan> plans_;  // dozens; they stay where they are
  detail::run<std::byte, detail::of_device> workspace_;
};

}  // namespace pipewright::inline v0::cuda
