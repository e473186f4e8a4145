// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <iterator>
#include <vector>

#include <pipewright/cuda/check.hpp>
#include <pipewright/cuda/event.hpp>

namespace pipewright::inline v0::cuda {

/// A context's pinned memory: `context.pinned()`. To ask CUDA for some may wait for all that the device has to do, and so for ever where
/// that waits for what this host is still to do. So it is asked for in blocks, which go back to CUDA with the context: the first when
/// it is first needed, or before the device waits for others (reserve, as the NCCL transport does); a further one only where what is
/// asked for does not fit.
class pinned_memory {
 public:
  pinned_memory() = default;
  pinned_memory(pinned_memory const&) = delete;
  pinned_memory& operator=(pinned_memory const&) = delete;
  ~pinned_memory() {
    for (auto* const each : blocks_) cudaFreeHost(each);
  }

  /// From now on so many bytes are taken without asking CUDA.
  void reserve(std::size_t bytes) {
    if (bytes > left_) add_block(bytes);
  }
  /// What is in it is anybody's.
  void* take(std::size_t bytes) {
    bytes = rounded(bytes);
    auto found = std::ranges::find_if(pieces_, [&](piece const& p) {
      return !p.is_taken && bytes <= p.bytes && p.bytes < 2 * bytes && p.last_use.is_reached();
    });
    if (found == pieces_.end()) found = carve(bytes);
    found->is_taken = true;
    return found->at;
  }
  /// To be taken again once the stream has done what was queued so far. What is not of this memory is left alone.
  void give_back(void* at, cudaStream_t last_used_on) {
    auto const found = std::ranges::find(pieces_, at, &piece::at);
    if (found == pieces_.end()) return;
    found->last_use.record(last_used_on);
    found->is_taken = false;
  }

 private:
  static constexpr std::size_t alignment = 256;
  static constexpr std::size_t block = std::size_t{1} << 20;  // bytes at a time, where more is not reserved

  struct piece {
    std::byte* at;
    std::size_t bytes;
    event last_use{};
    bool is_taken = false;
  };

  /// Up by an eighth at most, so that what grows little by little leaves pieces of few sizes behind.
  static std::size_t rounded(std::size_t bytes) {
    std::size_t const unit = std::max(alignment, std::bit_floor(bytes) / 8);
    return (std::max<std::size_t>(bytes, 1) + unit - 1) / unit * unit;
  }
  std::vector<piece>::iterator carve(std::size_t bytes) {
    if (bytes > left_) add_block(std::max(bytes, block));
    pieces_.push_back({next_, bytes});
    next_ += bytes;
    left_ -= bytes;
    return std::prev(pieces_.end());
  }
  /// What was left of the block before stays unused.
  void add_block(std::size_t bytes) {
    void* made = nullptr;
    check(cudaMallocHost(&made, bytes), "cudaMallocHost");
    blocks_.push_back(made);
    next_ = static_cast<std::byte*>(made);
    left_ = bytes;
  }

  std::vector<void*> blocks_;
  std::vector<piece> pieces_;
  std::byte* next_ = nullptr;
  std::size_t left_ = 0;
};

}  // namespace pipewright::inline v0::cuda
