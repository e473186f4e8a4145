// SPDX-License-Identifier: Apache-2.0
#pragma once
// What tests of kernels share. They are compiled by g++ with on_host/ in place of CUDA, and, with PIPEWRIGHT_ON_DEVICE, by nvcc
// for a device.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include <cuda/numbers.hpp>
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <pipewright/cuda/check.hpp>
#include <pipewright/gpt2/dropout.hpp>
#include <pipewright/gpt2_cuda/device.cuh>
#include <pipewright/gpt2_cuda/device_dropout.hpp>

#ifdef __NVCC__
#pragma nv_diag_suppress 177  // doctest's own variables, which nothing refers to
#endif

namespace kernel_testing {

namespace cuda = pipewright::gpt2::cuda;
using namespace cuda_testing;
using cuda_testing::difference;
using pipewright::cuda::check;
using integers = std::vector<std::int32_t>;

/// Owned memory of the device where there is one, else of the stand-in. No kernel may write the bytes behind it. Copies are deep.
template<class T> class device_vector {
 public:
  explicit device_vector(std::vector<T> const& from) : size_{from.size()} {
    void* made = nullptr;
    check(cudaMalloc(&made, bytes() + behind), "cudaMalloc");
    at_.reset(made);
    std::vector<std::byte> all(bytes() + behind, mark);
    if (!from.empty()) std::memcpy(all.data(), from.data(), bytes());
    check(cudaMemcpyAsync(made, all.data(), all.size(), cudaMemcpyHostToDevice, nullptr), "cudaMemcpyAsync");
    check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
  }
  device_vector(device_vector const& other) : device_vector(other.on_host()) {}
  device_vector(device_vector&&) noexcept = default;
  device_vector& operator=(device_vector other) noexcept {
    std::swap(at_, other.at_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~device_vector() = default;

  T* data() { return static_cast<T*>(at_.get()); }
  T const* data() const { return static_cast<T const*>(at_.get()); }
  std::size_t size() const { return size_; }
  /// After all that kernels do.
  std::vector<T> on_host() const {
    std::vector<std::byte> all(bytes() + behind);
    check(cudaMemcpyAsync(all.data(), at_.get(), all.size(), cudaMemcpyDeviceToHost, nullptr), "cudaMemcpyAsync");
    check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
    CHECK(std::all_of(all.begin() + static_cast<std::ptrdiff_t>(bytes()), all.end(),
                      [](std::byte b) { return b == mark; }));
    std::vector<T> made(size_);
    if (!made.empty()) std::memcpy(made.data(), all.data(), bytes());
    return made;
  }

 private:
  struct free {
    void operator()(void* at) const { cudaFree(at); }
  };
  static constexpr std::size_t behind = 256;
  static constexpr std::byte mark{0xa5};

  std::size_t bytes() const { return size_ * sizeof(T); }

  std::unique_ptr<void, free> at_;
  std::size_t size_ = 0;
};

template<class T> std::vector<T> on_host(device_vector<T> const& from) { return from.on_host(); }
template<class T> std::vector<T> on_host(std::vector<T> const& from) { return from; }

template<class T> device_vector<T> poisoned(std::size_t n) { return device_vector<T>(not_numbers<T>(n)); }

template<class T> double difference(device_vector<T> const& found, numbers const& expected) {
  return difference(found.on_host(), expected);
}
/// Of the threads of a block, where there is no device.
inline void take_order([[maybe_unused]] int which) {
#ifndef PIPEWRIGHT_ON_DEVICE
  cuda_on_host::threads_run = static_cast<cuda_on_host::order>(which);
#endif
}

/// Runs work() with the threads of a block in each order, or on a device as often; gives the host what the kernels gave, which
/// must be the same bits.
template<class Work> auto in_every_order(Work work) {
  auto const once = [&] {
    return std::apply([](auto const&... each) { return std::tuple(on_host(each)...); }, work());
  };
  auto const first = once();
  for (int const order : {1, 2, 3}) {
    take_order(order);
    auto const again = once();
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      CHECK((... && same_bits(std::get<I>(first), std::get<I>(again))));
    }(std::make_index_sequence<std::tuple_size_v<decltype(first)>>());
  }
  take_order(0);
  return first;
}

/// A mask as the host's operations take it and as the device's do, which find the step in memory.
class mask_of {
 public:
  explicit mask_of(float probability)
      : key_{.random = {.seed = 3, .step = 2, .micro_batch = 1, .layer = 4},
             .site = pipewright::gpt2::dropout_site::attention_projection,
             .probability = probability},
        step_({key_.random.step}) {}
  operator pipewright::gpt2::dropout() const { return key_; }
  operator cuda::device_dropout() const { return {key_, key_ ? step_.data() : nullptr}; }

 private:
  pipewright::gpt2::keyed_dropout key_;
  device_vector<std::int64_t> step_;
};

}  // namespace kernel_testing
