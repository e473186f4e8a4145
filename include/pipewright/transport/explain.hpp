// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/transport/transport.hpp>

namespace pipewright::inline v0 {

/// Says in a sentence, at compile time, what a type lacks to be a transport: the first lack only, so that one fault is one
/// error. True where it lacks nothing.
template<class T> consteval bool explain_transport() {
  if constexpr (!has_rank_and_size<T>)
    static_assert(has_rank_and_size<T>,
                  "pipewright: transport lacks int rank() const or int size() const; it stands for one "
                  "rank's end of all channels");
  else if constexpr (!has_channels<T>)
    static_assert(has_channels<T>,
                  "pipewright: transport lacks int open(channel_key), ticket post(int channel, message) or "
                  "ticket send(int channel, message); all three return at once, waiting is wait(ticket)");
  else if constexpr (!has_bounded_waits<T>)
    static_assert(has_bounded_waits<T>,
                  "pipewright: transport lacks bool poll(ticket), wait(ticket) or progress(); a "
                  "transport that moves things in the background has an empty progress()");
  else if constexpr (!has_control_plane<T>)
    static_assert(has_control_plane<T>,
                  "pipewright: transport lacks agree(std::string_view), or abort(std::string_view) "
                  "that is noexcept; abort frees every rank that waits");
  return transport<T>;
}

}  // namespace pipewright::inline v0
