// SPDX-License-Identifier: Apache-2.0
#pragma once
// Several devices of one process.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include <pipewright/cuda/check.hpp>
#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/event.hpp>
#include <pipewright/cuda/memory.hpp>
#include <pipewright/cuda/queue.hpp>
#include <pipewright/transport/message.hpp>
#include <pipewright/transport/sentences.hpp>

namespace pipewright::inline v0::cuda {

/// Lets each of these devices reach what contexts of the others allocate, now and later. Whether all can: between two that cannot,
/// copies go by the host, and NCCL finds other ways. Once, before ranks on several devices start; loopback::run does so itself.
inline bool share_pools(std::span<int const> devices) {
  bool can_all = true;
  for (int const of : devices)
    for (int const by : devices) {
      if (by == of) continue;
      int can = 0;
      cudaMemPool_t pool{};
      cudaMemAccessDesc access{};
      access.location.type = cudaMemLocationTypeDevice;
      access.location.id = by;
      access.flags = cudaMemAccessFlagsProtReadWrite;
      if (cudaDeviceCanAccessPeer(&can, by, of) == cudaSuccess && can == 1 &&
          cudaDeviceGetMemPool(&pool, of) == cudaSuccess && cudaMemPoolSetAccess(pool, &access, 1) == cudaSuccess)
        continue;
      static_cast<void>(cudaGetLastError());
      can_all = false;
    }
  return can_all;
}

namespace detail {

/// By what a thread copies values into other slots, on devices of its or others, for a context of the thread.
class mover {
 public:
  explicit mover(context& home) : home_{home} {}

  /// Whether a slot has a value's shape, so that nothing of it is freed or allocated.
  bool has_shape_of(message value, message slot) {
    shape_.clear();
    value.type->append_shape(value.object, shape_);
    auto const numbers = static_cast<std::ptrdiff_t>(shape_.size());
    slot.type->append_shape(slot.object, shape_);
    return std::equal(shape_.begin(), shape_.begin() + numbers, shape_.begin() + numbers, shape_.end());
  }
  /// Gives a slot on a device the value in one on that or another, shape and all; on the host the value is there when this returns.
  /// What is done on the device comes after before(stream) and before after(stream), in the order of a stream of the slot's device,
  /// within a device of `on`: never of the rank's own, which would wait for what is still to come. Throws error where the slot cannot
  /// have the value's shape.
  void operator()(message value, int from, message slot, int to, cudaStream_t on, auto&& before, auto&& after) {
    context& there = from == to ? home_ : context_on(to);  // what the slot lacks is allocated there
    cudaStream_t const by = from == to ? on : there.stream();
    there.work_here();
    try {
      before(by);
      give_shape(value, slot, by);
      std::size_t i = 0;
      pipewright::detail::for_each_part_of(slot, [&](part p) {
        void const* const source = parts_[i++].data;
        if (!p.on_device) std::memcpy(p.data, source, p.bytes);
        else if (from == to)
          queue_copy(by, static_cast<std::byte const*>(source), p.bytes, static_cast<std::byte*>(p.data));
        else check(cudaMemcpyPeerAsync(p.data, to, source, from, p.bytes, by), "cudaMemcpyPeerAsync");
      });
      after(by);
    } catch (...) {
      home_.work_here();
      throw;
    }
    home_.work_here();
  }

 private:
  context& context_on(int device) {
    for (auto const& each : contexts_)
      if (each->device() == device) return *each;
    return *contexts_.emplace_back(std::make_unique<context>(device, home_.rank()));
  }
  /// Memory that is new is there, for the stream.
  void give_shape(message value, message slot, cudaStream_t by) {
    auto const before = places_of(slot);
    shape_.clear();
    value.type->append_shape(value.object, shape_);
    slot.type->reshape(slot.object, shape_);
    parts_.clear();
    pipewright::detail::for_each_part_of(value, [&](part p) { parts_.push_back(p); });
    std::size_t i = 0;
    bool fits = true;
    pipewright::detail::for_each_part_of(slot, [&](part p) {
      fits = fits && i < parts_.size() && parts_[i].bytes == p.bytes && parts_[i].on_device == p.on_device;
      ++i;
    });
    if (!fits || i != parts_.size()) throw error(pipewright::detail::parts_elsewhere());
    auto const allocates_on = context::here().stream();
    if (by == allocates_on || places_of(slot) == before) return;
    event grown;
    {
      at_once const allocated;
      grown.record(allocates_on);
    }
    grown.hold(by);
  }

  context& home_;
  std::vector<std::unique_ptr<context>> contexts_;
  std::vector<std::int64_t> shape_;
  std::vector<part> parts_;
};

}  // namespace detail

}  // namespace pipewright::inline v0::cuda
