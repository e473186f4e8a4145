// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <cublasLt.h>
#include <cuda_bf16.h>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/memory.hpp>

namespace pipewright::inline v0::cuda {

/// c = a b: a is m x k, b is k x n, c is m x n, row-major without gaps; a and b as stored, or stored transposed.
struct product {
  int m, n, k;
  bool a_transposed = false, b_transposed = false;

  friend bool operator==(product const&, product const&) = default;
};

namespace detail {

inline void check(cublasStatus_t status, std::string_view call,
                  std::source_location at = std::source_location::current()) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw error("pipewright: " + place_of(call, at) + " failed: " + cublasLtGetStatusString(status));
}

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
  by_timing  ///< the fastest of its first sixteen, each run a few times: a second or so at the start
};

/// Matrix products of a context by cuBLASLt, in fp32 arithmetic (bf16 on tensor cores): `context.kept<products>()`. What a product
/// of given sizes and types needs is made once. Sums have one order: no algorithm adds by atomics.
class products {
 public:
  explicit products(context& where) : where_{where} { detail::check(cublasLtCreate(&handle_), "cublasLtCreate"); }
  products(products const&) = delete;
  products& operator=(products const&) = delete;
  ~products() {
    plans_.clear();
    cublasLtDestroy(handle_);
  }

  /// For products not met before.
  void choose(choice how) { how_ = how; }
  /// How many different ones there have been.
  std::size_t known() const { return plans_.size(); }

  /// Queues c = a b + beta c, and where `bias` is not null a row of n added to each of c's. Throws error where cuBLASLt has no way
  /// to compute it. `beta` is 0 (what c held is not read) or 1.
  template<class T, class C> void operator()(product of, T const* a, T const* b, float beta, C* c,
                                             T const* bias = nullptr) {
    if (of.m == 0 || of.n == 0) return;
    auto const aligned = (address(a) | address(b) | address(c) | address(bias)) % 256 == 0;
    key const which{of, detail::type_of<T>, detail::type_of<C>, beta != 0, bias != nullptr, aligned};
    auto found = std::ranges::find(plans_, which, &plan::of);
    if (found == plans_.end()) found = plans_.insert(plans_.end(), make(which, a, b, beta, c, bias));
    run(*found, found->how, a, b, beta, c, c, bias);
  }

 private:
  static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;  // what NVIDIA advises for Hopper

  struct key {
    product of;
    cudaDataType_t of_factors, of_result;
    bool adds, has_bias, aligned;

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
    way how;
  };

  static std::uintptr_t address(void const* at) { return reinterpret_cast<std::uintptr_t>(at); }
  template<class Value> static void set(detail::operation& of, cublasLtMatmulDescAttributes_t what, Value value) {
    detail::check(cublasLtMatmulDescSetAttribute(of.get(), what, &value, sizeof value),
                  "cublasLtMatmulDescSetAttribute");
  }

  template<class T, class C> plan make(key const& of, T const* a, T const* b, float beta, C* c, T const* bias) {
    product const p = of.of;
    plan made;
    made.of = of;
    made.what = detail::made_by<cublasLtMatmulDesc_t>("cublasLtMatmulDescCreate", [](auto* to) {
      return cublasLtMatmulDescCreate(to, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    });
    set(made.what, CUBLASLT_MATMUL_DESC_TRANSA, p.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(made.what, CUBLASLT_MATMUL_DESC_TRANSB, p.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (of.has_bias) {
      set(made.what, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(made.what, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, of.of_factors);
      set(made.what, CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void const*>(bias));
    }
    made.a =
        p.b_transposed ? detail::make_layout(of.of_factors, p.k, p.n) : detail::make_layout(of.of_factors, p.n, p.k);
    made.b =
        p.a_transposed ? detail::make_layout(of.of_factors, p.m, p.k) : detail::make_layout(of.of_factors, p.k, p.m);
    made.c = detail::make_layout(of.of_result, p.n, p.m);
    auto const ways = ways_to(made, of);
    if (ways.empty())
      throw error("pipewright: cuBLASLt has no way to multiply " + std::to_string(p.m) + " x " + std::to_string(p.k) +
                  " by " + std::to_string(p.k) + " x " + std::to_string(p.n) +
                  " here; choose sizes that are multiples of 8, or fp32");
    made.how = ways.front();
    if (how_ == choice::by_timing && ways.size() > 1 && !where_.writes_down())
      made.how = fastest(made, ways, a, b, beta, c, bias, p);
    return made;
  }

  std::vector<way> ways_to(plan const& of, key const& which) {
    auto const wants = detail::made_by<cublasLtMatmulPreference_t>(
        "cublasLtMatmulPreferenceCreate", [](auto* to) { return cublasLtMatmulPreferenceCreate(to); });
    auto const want = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
      detail::check(cublasLtMatmulPreferenceSetAttribute(wants.get(), what, &value, sizeof value),
                    "cublasLtMatmulPreferenceSetAttribute");
    };
    want(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
    want(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    if (!which.aligned)
      for (auto const what : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
        want(what, std::uint32_t{4});
    cublasLtMatmulHeuristicResult_t found[16];
    int count = 0;
    auto const status = cublasLtMatmulAlgoGetHeuristic(handle_, of.what.get(), of.a.get(), of.b.get(), of.c.get(),
                                                       of.c.get(), wants.get(), 16, found, &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) detail::check(status, "cublasLtMatmulAlgoGetHeuristic");
    std::vector<way> ways;
    for (auto const& each : std::span(found, static_cast<std::size_t>(count)))
      if (each.state == CUBLAS_STATUS_SUCCESS) ways.push_back({each.algo});
    return ways;
  }

  template<class T, class C>
  void run(plan& of, way const& by, T const* a, T const* b, float beta, C const* c, C* d, T const* bias) {
    if (workspace_.size() == 0) workspace_.resize(workspace_bytes);
    queue("cublasLtMatmul", where_.stream(), &products::multiply, this, &of, by, static_cast<void const*>(a),
          static_cast<void const*>(b), beta, static_cast<void const*>(c), static_cast<void*>(d),
          static_cast<void const*>(bias));
  }
  static cudaError_t multiply(cudaStream_t on, products* self, plan* of, way by, void const* a, void const* b,
                              float beta, void const* c, void* d, void const* bias) {
    if (bias != nullptr) set(of->what, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    float const alpha = 1;
    detail::check(cublasLtMatmul(self->handle_, of->what.get(), &alpha, b, of->a.get(), a, of->b.get(), &beta, c,
                                 of->c.get(), d, of->c.get(), &by.of, self->workspace_.data(), workspace_bytes, on),
                  "cublasLtMatmul");
    return cudaSuccess;
  }

  /// Runs each a few times, into memory of its own: c must be added to once.
  template<class T, class C> way fastest(plan& of, std::vector<way> const& ways, T const* a, T const* b, float beta,
                                         C const* c, T const* bias, product sizes) {
    buffer<C> result;
    result.resize(static_cast<std::size_t>(sizes.m) * static_cast<std::size_t>(sizes.n));
    event begin(true), end(true);
    auto const milliseconds = [&](way const& by) {
      for (int i = 0; i < 2; ++i) run(of, by, a, b, beta, c, result.data(), bias);
      begin.record(where_.stream());
      for (int i = 0; i < 5; ++i) run(of, by, a, b, beta, c, result.data(), bias);
      end.record(where_.stream());
      where_.wait(end);
      return end.milliseconds_since(begin);
    };
    auto const* best = &ways.front();
    float least = milliseconds(*best);
    for (auto const& each : std::span(ways).subspan(1))
      if (float const took = milliseconds(each); took < least) {
        best = &each;
        least = took;
      }
    return *best;
  }

  context& where_;
  cublasLtHandle_t handle_ = nullptr;
  choice how_ = choice::by_rule;
  std::deque<plan> plans_;  // dozens; they stay where they are
  detail::run<std::byte, detail::of_device> workspace_;
};

}  // namespace pipewright::inline v0::cuda
