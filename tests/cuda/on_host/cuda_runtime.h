// SPDX-License-Identifier: Apache-2.0
#pragma once
// Enough of CUDA to run kernels without a device: g++ compiles them as plain functions with this folder before the toolkit's. The
// threads of a block are fibers, which run from one barrier to the next in an order that a test chooses: what a kernel gives must
// not depend on it, so that a barrier that is missing shows. Blocks run one after another.
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>
#include <cuda_runtime_api.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes;
  cudaStream_t stream;
  void* attrs;
  unsigned numAttrs;
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_host {

/// In which order the threads of a block run between two barriers; the last: each warp alone, for as long as it can.
enum class order { ascending, descending, mixed, warp_by_warp };
inline order threads_run = order::ascending;

alignas(128) inline std::byte shared[232'448];  // what a block may have on sm_90

enum class barrier { none, of_warp, of_block };

/// Raises all floating-point exceptions, which nobody asks for: to switch between fibers of different flags takes ten times as long.
inline void raise_all_flags() {
  constexpr std::fexcept_t all = FE_ALL_EXCEPT;
  std::fesetexceptflag(&all, FE_ALL_EXCEPT);
}

/// A block's threads, each with a stack of its own, which it keeps from kernel to kernel.
class block {
  struct fiber {
    boost::context::fiber own, scheduler;  // where it goes on, and where who runs it does
    bool has_ended = true;
    barrier waits_at = barrier::none;
  };
  static constexpr std::size_t stack_bytes = 64 << 10;

 public:
  void run(unsigned threads, std::function<void()> const& kernel) {
    while (fibers_.size() < threads) {
      fiber& made = *fibers_.emplace_back(std::make_unique<fiber>());
      made.own = boost::context::fiber(std::allocator_arg, boost::context::fixedsize_stack(stack_bytes),
                                       [this, &made](boost::context::fiber&& from) {
                                         made.scheduler = std::move(from);
                                         raise_all_flags();
                                         for (;;) {
                                           (*kernel_)();
                                           made.has_ended = true;
                                           made.scheduler = std::move(made.scheduler).resume();
                                         }
                                         return std::move(made.scheduler);
                                       });
    }
    raise_all_flags();
    kernel_ = &kernel;
    threads_ = threads;
    for (unsigned i = 0; i < threads; ++i) {
      fibers_[i]->has_ended = false;
      fibers_[i]->waits_at = barrier::none;
    }
    unsigned const together = threads_run == order::warp_by_warp && threads > 32 ? 32 : threads;
    do
      for (unsigned from = 0; from < threads; from += together) do
          for (unsigned step = from; step < from + together; ++step) go_on(place(step));
        while (together < threads && release(from, from + together, barrier::of_warp));
    while (let_go());
  }
  void wait(barrier at) {
    fiber& f = *fibers_[running_];
    f.waits_at = at;
    f.scheduler = std::move(f.scheduler).resume();
  }
  unsigned running() const { return running_; }
  std::uint64_t& given_by(unsigned thread) { return given_[thread]; }

  static block& current() {
    static block one;
    return one;
  }

 private:
  static bool is_ready(fiber const& f) { return !f.has_ended && f.waits_at == barrier::none; }
  unsigned place(unsigned step) const {
    switch (threads_run) {
      case order::descending: return threads_ - 1 - step;
      case order::mixed:
        return (step * 29 + 17) % threads_;  // blocks have multiples of 32 threads, which 29 does not divide
      default: return step;
    }
  }
  void go_on(unsigned i) {
    if (!is_ready(*fibers_[i])) return;
    running_ = i;
    threadIdx = {i, 0, 0};
    fibers_[i]->own = std::move(fibers_[i]->own).resume();
  }
  /// Whether all of these that have not ended have come to that barrier; they may go on then.
  bool release(unsigned from, unsigned to, barrier at) {
    bool is_any = false;
    for (unsigned i = from; i < to; ++i) {
      if (fibers_[i]->has_ended) continue;
      if (fibers_[i]->waits_at != at) return false;
      is_any = true;
    }
    for (unsigned i = from; i < to; ++i) fibers_[i]->waits_at = barrier::none;
    return is_any;
  }
  /// Whether some may go on. Ends the program where some wait, and none may.
  bool let_go() {
    bool is_any = release(0, threads_, barrier::of_block);
    for (unsigned w = 0; w + 32 <= threads_; w += 32) is_any |= release(w, w + 32, barrier::of_warp);
    for (unsigned i = 0; !is_any && i < threads_; ++i)
      if (!fibers_[i]->has_ended) {
        std::fprintf(stderr, "a kernel's threads wait at different barriers\n");
        std::abort();
      }
    return is_any;
  }

  std::vector<std::unique_ptr<fiber>> fibers_;
  std::function<void()> const* kernel_ = nullptr;
  unsigned threads_ = 0, running_ = 0;
  std::uint64_t given_[1024];
};

/// What lane `from` of this warp gave in the same call.
template<class T> T exchange(T mine, unsigned from) {
  block& here = block::current();
  std::uint64_t& given = here.given_by(here.running());
  given = 0;
  std::memcpy(&given, &mine, sizeof mine);
  here.wait(barrier::of_warp);
  std::memcpy(&mine, &here.given_by(here.running() / 32 * 32 + from), sizeof mine);
  here.wait(barrier::of_warp);
  return mine;
}

/// An argument of a kernel, where it is a pointer.
template<class T> void const* as_memory(T const& given) {
  if constexpr (std::is_pointer_v<T>) return given;
  else return nullptr;
}

}  // namespace cuda_on_host

inline float rsqrtf(float v) { return 1.f / std::sqrt(v); }
inline void __syncthreads() { cuda_on_host::block::current().wait(cuda_on_host::barrier::of_block); }
inline void __syncwarp() { cuda_on_host::block::current().wait(cuda_on_host::barrier::of_warp); }
template<class T> T __shfl_xor_sync(unsigned, T value, int mask) {
  return cuda_on_host::exchange(value, (cuda_on_host::block::current().running() % 32) ^ static_cast<unsigned>(mask));
}
template<class T> T __shfl_sync(unsigned, T value, int lane) {
  return cuda_on_host::exchange(value, static_cast<unsigned>(lane));
}

template<class... Takes, class... Given>
cudaError_t cudaLaunchKernelEx(cudaLaunchConfig_t const* how, void (*kernel)(Takes...), Given&&... given) {
  using namespace cuda_on_host;
  unsigned const threads = how->blockDim.x;
  if (threads == 0 || (threads > 1 && threads % 32 != 0) || threads > 1024 || how->gridDim.x == 0 ||
      how->dynamicSmemBytes > sizeof shared)
    return cudaErrorInvalidConfiguration;
  PIPEWRIGHT_ON_HOST(cudaLaunchKernelEx);
  if (auto const wrong = use(how->stream, {as_memory(given)...}); wrong != cudaSuccess) return wrong;
  enqueue(how->stream, [to = *how, kernel, given = std::tuple<std::remove_cv_t<Takes>...>(given...)] {
    gridDim = to.gridDim;
    blockDim = to.blockDim;
    for (unsigned y = 0; y < gridDim.y; ++y)
      for (unsigned x = 0; x < gridDim.x; ++x) {
        blockIdx = {x, y, 0};
        std::memset(shared, 0xff, to.dynamicSmemBytes);  // NaN
        block::current().run(to.blockDim.x, [&] { std::apply(kernel, given); });
      }
  });
  return cudaSuccess;
}
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
cudaError_t cudaFuncSetAttribute(auto, cudaFuncAttribute, int) { return cudaSuccess; }
