// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/transport/message.hpp>

namespace pipewright::inline v0::wire::detail {

/// What goes ahead of every value: its type and shape, and the value itself where there is room. How much there is both ends
/// know before (see room_for_next), so that a receive can be posted before anything is known of the value.
class frame {
  struct head {
    std::uint64_t type;     // a hash of its name
    std::uint32_t letters;  // of the name, as far as it fits
    std::uint32_t numbers;  // of the shape
    std::uint64_t payload;  // bytes
    bool numbers_follow;    // in a message of their own
    bool payload_inside;
  };

 public:
  /// Throws error where the host does not reach a part.
  static void check_reach(part p, message_type const& type) {
    if (p.on_device)
      throw error("pipewright: a value of " + std::string(type.name) +
                  " lies on a device, which this transport does not reach; choose pipewright::nccl, or in one process "
                  "pipewright::cuda::loopback");
  }
  /// The room of a channel's first frames, and of the one that is `channel::frames_ahead` after a value that is too large for frames.
  static constexpr std::size_t least_room = 1024;

  /// For what comes in.
  void make_room(std::size_t room) { data_.resize(room); }
  std::byte* data() { return data_.data(); }
  std::size_t bytes() const { return data_.size(); }

  /// Writes a value's frame. `numbers` is room for its shape.
  void write(message_type const& type, void* value, std::vector<std::int64_t>& numbers, std::size_t room) {
    make_room(room);
    numbers.clear();
    type.append_shape(value, numbers);
    head h{hash_of(type.name),
           static_cast<std::uint32_t>(std::min(type.name.size(), most_letters)),
           static_cast<std::uint32_t>(numbers.size()),
           type.bytes(value),
           false,
           false};
    std::size_t at = sizeof h;
    std::memcpy(data() + at, type.name.data(), h.letters);
    at += h.letters;
    std::size_t const shape = numbers.size() * sizeof(std::int64_t);
    h.numbers_follow = at + shape > room;
    if (!h.numbers_follow) {
      if (shape > 0) std::memcpy(data() + at, numbers.data(), shape);
      at += shape;
      h.payload_inside = at + h.payload <= room;
    }
    std::memcpy(data(), &h, sizeof h);
    if (h.payload_inside) copy_payload(type, value, at, true);
  }

  bool is_of(message_type const& type) const { return read().type == hash_of(type.name); }
  std::string type_name() const {
    head const h = read();
    return {reinterpret_cast<char const*>(data_.data()) + sizeof h, std::min<std::size_t>(h.letters, most_letters)};
  }
  bool numbers_follow() const { return read().numbers_follow; }
  bool payload_inside() const { return read().payload_inside; }
  std::size_t payload() const { return read().payload; }
  /// What this frame would have needed, or the least room if that is more than `most`: values of a channel are mostly alike.
  std::size_t room_for_next(std::size_t most) const {
    head const h = read();
    std::size_t const shape = h.letters + h.numbers * sizeof(std::int64_t);
    bool const fits = h.payload <= most && sizeof h + shape + h.payload <= most;
    return std::max(least_room, fits ? sizeof h + shape + h.payload : 0);
  }
  /// Resizes `numbers` to the shape's, and fills it where it is here.
  void take_numbers(std::vector<std::int64_t>& numbers) const {
    head const h = read();
    numbers.resize(h.numbers);
    if (!h.numbers_follow && h.numbers > 0)
      std::memcpy(numbers.data(), data_.data() + sizeof h + h.letters, h.numbers * sizeof(std::int64_t));
  }
  void take_payload(message_type const& type, void* value) {
    head const h = read();
    copy_payload(type, value, sizeof h + h.letters + h.numbers * sizeof(std::int64_t), false);
  }

 private:
  static constexpr std::size_t most_letters = 200;

  head read() const {
    head h;
    std::memcpy(&h, data_.data(), sizeof h);
    return h;
  }
  static std::uint64_t hash_of(std::string_view name) {  // FNV-1a
    std::uint64_t hash = 14695981039346656037u;
    for (char const letter : name) hash = (hash ^ static_cast<unsigned char>(letter)) * 1099511628211u;
    return hash;
  }
  void copy_payload(message_type const& type, void* value, std::size_t at, bool out) {
    struct cursor {
      std::byte* here;
      bool out;
      message_type const& type;
    } c{data() + at, out, type};
    type.for_each_part(
        value,
        [](void* context, part p) {
          auto& to = *static_cast<cursor*>(context);
          check_reach(p, to.type);
          if (to.out) std::memcpy(to.here, p.data, p.bytes);
          else std::memcpy(p.data, to.here, p.bytes);
          to.here += p.bytes;
        },
        &c);
  }

  std::vector<std::byte> data_ = std::vector<std::byte>(least_room);
};

}  // namespace pipewright::inline v0::wire::detail
