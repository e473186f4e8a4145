// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>

#include <pipewright/schedule/action.hpp>
#include <pipewright/transport/message.hpp>

namespace pipewright::inline v0 {

/// One transfer begun: the number-th on its channel, seen from the end that holds the ticket.
struct ticket {
  int channel = -1;
  std::uint64_t number = 0;
};

template<class T>
concept has_rank_and_size = requires(T const t) {
  { t.rank() } -> std::same_as<int>;
  { t.size() } -> std::same_as<int>;
};
template<class T>
concept has_channels = requires(T t, channel_key key, message m, int channel) {
  { t.open(key) } -> std::same_as<int>;
  { t.post(channel, m) } -> std::same_as<ticket>;
  { t.send(channel, m) } -> std::same_as<ticket>;
};
template<class T>
concept has_bounded_waits = requires(T t, ticket k) {
  { t.poll(k) } -> std::same_as<bool>;
  t.wait(k);
  t.progress();
};
template<class T>
concept has_control_plane = requires(T t, std::string_view text) {
  t.agree(text);
  { t.abort(text) } noexcept;
};

/// Moves boundary values between ranks over directed first-in-first-out channels.
/// Needs: (1) rank(), size(); (2) open(key) -> a channel handle, called once per key at start-up at both ends;
/// post(channel, message) and send(channel, message) -> ticket, neither of them blocking; (3) poll(ticket) -> whether
/// that transfer is complete; wait(ticket); progress(), for those that move nothing in the background; (4)
/// agree(digest), which throws on every rank unless all ranks call it with one text; abort(why).
/// Promises: the k-th send of a channel meets its k-th post, no other; a complete post has its value in the slot, a
/// complete send no longer needs its slot; wait returns or throws pipewright::error by the transport's deadline; after
/// abort every wait and poll of every rank throws with that reason; once abort has returned, or a wait or poll has
/// thrown, no slot of that rank is touched any more.
/// Not required: tags, buffering (a send may complete only when its post is there), collectives, thread safety beyond
/// one thread a rank. `locate(function)`: from now on errors say where the rank is as function() has it, until it is given an
/// empty one. `computing(begins)` noexcept: the rank's thread begins (true, which holds from the start) or ends (false) work of
/// its own, under which transfers are to go on by themselves.
/// Minimal model: in_process::endpoint.
template<class T>
concept transport = has_rank_and_size<T> && has_channels<T> && has_bounded_waits<T> && has_control_plane<T>;

}  // namespace pipewright::inline v0
