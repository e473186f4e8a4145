// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/memory.hpp>

namespace pipewright::inline v0::cuda {

/// Small values that the host hands to kernels through memory, such as a learning rate or the step of dropout's key: so that a
/// step's work is the same when they change (see step_graph). `context.kept<constants>()`.
class constants {
  static constexpr std::size_t room = 64;    // bytes of each
  static constexpr std::size_t most = 1024;  // at a time
  static constexpr std::size_t memory = 4;   // that are looked through for the same value

 public:
  explicit constants(context& where) : where_{where} {
    from_.resize(room * most);
    to_.resize(room * most);
  }

  /// Where the device has v, until `most` others have come. Queues a copy, unless v is one of the last few.
  template<class T> T const* place(T const& v) {
    static_assert(sizeof(T) <= room && std::is_trivially_copyable_v<T>);
    if (list_ != where_.lists() || writes_down_ != where_.writes_down()) begin();
    for (std::size_t i = next_ - std::min(next_, memory); i < next_; ++i)
      if (std::memcmp(from_.data() + i * room, &v, sizeof v) == 0) return at<T>(i);
    if (next_ == most) {
      where_.wait();
      begin();
    }
    std::memset(from_.data() + next_ * room, 0, room);
    std::memcpy(from_.data() + next_ * room, &v, sizeof v);
    queue_copy(where_.stream(), from_.data() + next_ * room, room, to_.data() + next_ * room);
    return at<T>(next_++);
  }

 private:
  /// A step that is written down puts them where the one before has: the device has done that one.
  void begin() {
    if (!where_.writes_down()) where_.wait();
    list_ = where_.lists();
    writes_down_ = where_.writes_down();
    next_ = 0;
  }
  template<class T> T const* at(std::size_t i) const { return reinterpret_cast<T const*>(to_.data() + i * room); }

  context& where_;
  pinned_buffer<std::byte> from_;
  detail::run<std::byte, detail::of_device> to_;
  std::size_t next_ = 0;
  std::uint64_t list_ = 0;
  bool writes_down_ = false;
};

}  // namespace pipewright::inline v0::cuda
