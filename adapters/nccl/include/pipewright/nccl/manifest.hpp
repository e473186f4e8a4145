// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <pipewright/cuda/memory.hpp>
#include <pipewright/transport/message.hpp>
#include <pipewright/transport/sentences.hpp>

namespace pipewright::inline v0::nccl::detail {

/// What a receiver's host must know of a value, beside what lies on the device: type, shape, where its parts lie, and
/// those that lie on the host. Travels over the control transport.
struct manifest {
  std::string type;
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> on_device;  // by part
  std::uint8_t is_whole = 0;            // whether on_host has the device's parts, too
  std::vector<std::byte> on_host;       // the parts there, one after the other

  void for_each_part(auto&& visit) {
    visit(type);
    visit(shape);
    visit(on_device);
    visit(is_whole);
    visit(on_host);
  }
  bool uses_device() const { return is_whole == 0 && std::ranges::find(on_device, 1) != on_device.end(); }
  friend bool operator==(manifest const&, manifest const&) = default;
};

using pipewright::detail::for_each_part_of;

inline bool is_on_device(void const* at) {
  cudaPointerAttributes found{};
  cuda::check(cudaPointerGetAttributes(&found, at), "cudaPointerGetAttributes");
  return found.type == cudaMemoryTypeDevice || found.type == cudaMemoryTypeManaged;
}

/// Describes a value. Where it has the shape of `like`, its parts lie where those do, and nobody need ask.
inline void describe(message value, manifest& into, manifest const* like) {
  into.type = value.type->name;
  into.shape.clear();
  into.on_device.clear();
  into.is_whole = 0;
  into.on_host.clear();
  value.type->append_shape(value.object, into.shape);
  bool const is_alike = like != nullptr && like->shape == into.shape;
  for_each_part_of(value, [&](part p) {
    std::size_t const i = into.on_device.size();
    into.on_device.push_back(is_alike && i < like->on_device.size() ? like->on_device[i] : is_on_device(p.data));
    auto const* const data = static_cast<std::byte const*>(p.data);
    if (into.on_device.back() == 0) into.on_host.insert(into.on_host.end(), data, data + p.bytes);
  });
}
/// Adds the parts on the device to a value's manifest; the host waits for them.
inline void make_whole(manifest& of, message value) {
  of.is_whole = 1;
  of.on_host.clear();
  std::size_t i = 0;
  for_each_part_of(value, [&](part p) {
    auto const* const data = static_cast<std::byte const*>(p.data);
    std::size_t const before = of.on_host.size();
    of.on_host.resize(before + p.bytes);
    std::span const to(of.on_host.data() + before, p.bytes);
    if (of.on_device[i++] == 1) cuda::download(data, to);
    else std::copy_n(data, p.bytes, to.data());
  });
}

/// Makes a slot ready for a value: gives it the shape, and the parts on the host. Throws error where it has other
/// parts.
inline void apply(manifest const& told, message slot) {
  slot.type->reshape(slot.object, told.shape);
  std::size_t i = 0, taken = 0;
  bool fits = true;
  for_each_part_of(slot, [&](part p) {
    bool const on_device = i < told.on_device.size() && told.on_device[i] == 1;
    ++i;
    fits = fits && (!on_device || is_on_device(p.data));
    if (on_device && told.is_whole == 0) return;
    if (fits = fits && p.bytes <= told.on_host.size() - taken; !fits) return;
    std::span const from(told.on_host.data() + taken, p.bytes);
    if (on_device) cuda::upload(from, static_cast<std::byte*>(p.data));
    else std::ranges::copy(from, static_cast<std::byte*>(p.data));
    taken += p.bytes;
  });
  if (!fits || i != told.on_device.size() || taken != told.on_host.size())
    throw error(pipewright::detail::parts_elsewhere());
}

}  // namespace pipewright::inline v0::nccl::detail
