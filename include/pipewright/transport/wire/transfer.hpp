// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <pipewright/transport/wire/frame.hpp>
#include <pipewright/transport/wire/link.hpp>

namespace pipewright::inline v0::wire::detail {

/// Values of one type between transfers. A transfer works on a value of its own, which is exchanged with the slot's at its
/// start or end: so nothing is copied, buffers go round, and a slot is never touched behind its owner's back.
class spare_values {
 public:
  explicit spare_values(message_type const& type) : type_{type} {}
  spare_values(spare_values const&) = delete;
  spare_values& operator=(spare_values const&) = delete;
  ~spare_values() {
    for (void* each : values_) type_.destroy(each);
  }
  message_type const& type() const { return type_; }
  void* take() {
    if (!values_.empty()) {
      void* const last = values_.back();
      values_.pop_back();
      return last;
    }
    void* const made = type_.make();
    if (made == nullptr)
      throw error("pipewright: " + std::string(type_.name) +
                  " cannot travel between processes, since it has no default constructor; add one");
    return made;
  }
  void give(void* value) { values_.push_back(value); }

 private:
  message_type const& type_;
  std::vector<void*> values_;
};

/// One value on its way, out or in.
template<link Link> class transfer {
  using request = typename Link::request;
  enum class state : char { idle, head, shape, payload, done };

 public:
  /// Out: takes the slot's value and sets out, in a frame with that much room.
  void start_sending(Link& over, int peer, int tag, spare_values& pool, message slot, std::size_t room) {
    begin(pool, slot);
    value_ = pool.take();
    slot.type->exchange(value_, slot.object);
    frame_->write(*slot.type, value_, numbers_, room);
    requests_.push_back(over.send(peer, tag, frame_->data(), frame_->bytes()));
    auto send = [&](std::byte* from, std::size_t n) { requests_.push_back(over.send(peer, tag + 1, from, n)); };
    if (frame_->numbers_follow()) in_pieces(numbers_as_part(), send);
    if (!frame_->payload_inside()) for_each_piece(send);
    state_ = state::payload;
  }
  /// In: nothing yet, since transfers before it on the channel come first.
  void await(spare_values& pool, message slot) {
    begin(pool, slot);
    state_ = state::idle;
  }

  /// Goes as far as it can, in a frame with that much room. `is_next`: what comes next on the channel is this, so that what
  /// follows its frame may be asked for. True where it is through.
  bool advance(Link& over, int peer, int tag, bool is_next, std::size_t room, auto&& mismatch) {
    auto ask = [&](std::byte* to, std::size_t n) { requests_.push_back(over.receive(peer, tag + 1, to, n)); };
    switch (state_) {
      case state::idle:
        frame_->make_room(room);
        requests_.push_back(over.receive(peer, tag, frame_->data(), room));
        state_ = state::head;
        [[fallthrough]];
      case state::head:
        if (!is_next || !all_tested(over)) return false;
        if (!frame_->is_of(*slot_.type)) mismatch(frame_->type_name());
        frame_->take_numbers(numbers_);
        if (frame_->numbers_follow()) in_pieces(numbers_as_part(), ask);
        state_ = state::shape;
        [[fallthrough]];
      case state::shape:
        if (!all_tested(over)) return false;
        value_ = pool_->take();
        slot_.type->reshape(value_, numbers_);
        if (slot_.type->bytes(value_) != frame_->payload())
          throw error("pipewright: a value of " + std::string(slot_.type->name) + " has " +
                      std::to_string(frame_->payload()) + " bytes where it is sent and " +
                      std::to_string(slot_.type->bytes(value_)) +
                      " where it is received; its reshape() makes another value than its shape() tells");
        if (frame_->payload_inside()) frame_->take_payload(*slot_.type, value_);
        else for_each_piece(ask);
        state_ = state::payload;
        [[fallthrough]];
      case state::payload:
        if (!all_tested(over)) return false;
        state_ = state::done;
        [[fallthrough]];
      case state::done: return true;
    }
    return true;
  }
  /// Whether the next one on the channel may begin: this one's head and shape are here, its payload is asked for.
  bool is_past_its_head() const { return state_ >= state::payload; }
  /// Once its head is here: whether the value is not in the frame but comes after it.
  bool value_follows() const { return !frame_->payload_inside(); }
  bool is_through() const { return state_ == state::done; }
  /// How much room the next one's frame has, once this one's is here.
  std::size_t room_for_next() const {
    if constexpr (requires { Link::most_in_a_frame; }) return frame_->room_for_next(Link::most_in_a_frame);
    else return frame::least_room;
  }
  message_type const& type() const { return *slot_.type; }

  /// Puts what came into the slot. Called by the slot's owner.
  void deliver() {
    slot_.type->exchange(slot_.object, value_);
    finish();
  }
  /// The value, out or in, is no longer needed.
  void finish() {
    pool_->give(value_);
    value_ = nullptr;
  }
  /// After an abort. Memory that the link may still read or write is left to it.
  void give_up(Link& over) noexcept {
    bool is_free = true;
    for (; tested_ < requests_.size(); ++tested_) is_free = over.cancel(requests_[tested_]) && is_free;
    if (is_free && value_ != nullptr) finish();
    if (!is_free) static_cast<void>(new transfer(std::move(*this)));  // for the rest of the process
    requests_.clear();
  }

 private:
  void begin(spare_values& pool, message slot) {
    pool_ = &pool;
    slot_ = slot;
    if (!frame_) frame_ = std::make_unique<frame>();
    requests_.clear();
    tested_ = 0;
  }
  bool all_tested(Link& over) {
    for (; tested_ < requests_.size(); ++tested_)
      if (!over.test(requests_[tested_])) return false;
    requests_.clear();
    tested_ = 0;
    return true;
  }
  static constexpr std::size_t most_at_once() {
    if constexpr (requires { Link::most_at_once; }) return Link::most_at_once;
    else return std::size_t{1} << 30;  // counts of MPI are ints
  }
  static void in_pieces(part whole, auto&& visit) {
    for (std::size_t at = 0; at < whole.bytes; at += most_at_once())
      visit(static_cast<std::byte*>(whole.data) + at, std::min(most_at_once(), whole.bytes - at));
  }
  part numbers_as_part() { return {numbers_.data(), numbers_.size() * sizeof(std::int64_t), element::int64}; }
  void for_each_piece(auto&& visit) {
    pipewright::detail::for_each_part_of({value_, slot_.type}, [&](part p) {
      frame::check_reach(p, *slot_.type);
      in_pieces(p, visit);
    });
  }

  state state_ = state::idle;
  message slot_{};
  spare_values* pool_ = nullptr;
  void* value_ = nullptr;
  std::unique_ptr<frame> frame_;
  std::vector<std::int64_t> numbers_;
  std::vector<request> requests_;
  std::size_t tested_ = 0;
};

}  // namespace pipewright::inline v0::wire::detail
