// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>

#include <pipewright/nccl/check.hpp>
#include <pipewright/nccl/communicators.hpp>

namespace pipewright::inline v0::nccl::detail {

/// Sends and receives of a communicator that NCCL does as one kernel. Bytes that can be copied and compared, so that it can be written
/// down in a step's work.
class group {
  static constexpr std::size_t most = 64;

 public:
  explicit group(ncclComm_t over) : over_{over} {}
  /// Throws error beyond 64.
  void add(bool sends, int peer, void* data, std::size_t bytes) {
    if (count_ == most)
      throw error(
          "pipewright: a group of NCCL has up to " + std::to_string(most) +
          " parts on the device; let boundary types have fewer, or leave each channel a communicator of its own");
    calls_[count_++] = {data, bytes, peer, sends};
  }
  /// Calls NCCL, which may still be in progress then.
  void call(cudaStream_t on) const {
    check(ncclGroupStart(), "ncclGroupStart");
    ncclResult_t called = ncclSuccess;
    for (std::size_t i = 0; i < count_ && called == ncclSuccess; ++i) {
      auto const& [data, bytes, peer, sends] = calls_[i];
      called = sends != 0 ? ncclSend(data, bytes, ncclInt8, static_cast<int>(peer), over_, on)
                          : ncclRecv(data, bytes, ncclInt8, static_cast<int>(peer), over_, on);
      if (called == ncclInProgress) called = ncclSuccess;
    }
    ncclResult_t const ended = ncclGroupEnd();
    check(called, "ncclSend or ncclRecv", over_);
    check(ended, "ncclGroupEnd", over_);
  }
  /// The same as written work: returns when it is on the stream, for which a connected communicator needs no other rank.
  static cudaError_t play(cudaStream_t on, group const of) {
    of.call(on);
    auto const limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    for (;;) {
      auto const state = communicators::state_of(of.over_);
      if (state == ncclSuccess) return cudaSuccess;
      if (state != ncclInProgress) check(state, "a transfer of a written step", of.over_);
      if (std::chrono::steady_clock::now() > limit)
        throw error("pipewright: NCCL has not queued a transfer of a written step for 10 s");
      std::this_thread::yield();
    }
  }

 private:
  struct call_of_nccl {  // without gaps
    void* data;
    std::size_t bytes;
    std::int64_t peer, sends;
  };
  ncclComm_t over_;
  std::size_t count_ = 0;
  std::array<call_of_nccl, most> calls_{};
};

}  // namespace pipewright::inline v0::nccl::detail
