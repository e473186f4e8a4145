// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>

namespace pipewright::inline v0::wire {

/// Moves bytes between processes: what an endpoint is built on.
/// Needs: (1) rank(), size(); (2) send(peer, tag, from, bytes) and receive(peer, tag, to, bytes) -> request, neither of
/// them blocking, tags 0 to 15; (3) test(request), whether it is complete; it may move bytes;
/// cancel(request), which gives an incomplete one up and says whether its memory may be freed now; (4)
/// wants_a_thread(), whether bytes move only while somebody calls test, and calls from another thread are allowed.
/// Promises: for one peer and tag the k-th send meets the k-th receive, which asks for as many bytes. Failures are
/// pipewright::error.
/// Not required: deadlines, abort, agreement: the endpoint has them. `static constexpr most_in_a_frame`: up to how many bytes
/// a value is copied into its frame rather than sent after it. `static constexpr most_at_once`: how many bytes a request moves at
/// most, 1 KiB (or most_in_a_frame) or more, if less than 1 GiB. `await_news(seen, most)`, where requests complete by
/// themselves: returns once one has completed since `seen`, what the last call returned or 0, or after `most` seconds; it is
/// called by two threads, at any time, and the rest by either of them, one call at a time. `computing(begins)` noexcept: see
/// transport. Minimal model: mpi::link.
template<class L>
concept link = requires(L l, L const c, typename L::request r, int i, void* to, void const* from, std::size_t n) {
  { c.rank() } -> std::same_as<int>;
  { c.size() } -> std::same_as<int>;
  { c.wants_a_thread() } -> std::same_as<bool>;
  { l.send(i, i, from, n) } -> std::same_as<typename L::request>;
  { l.receive(i, i, to, n) } -> std::same_as<typename L::request>;
  { l.test(r) } -> std::same_as<bool>;
  { l.cancel(r) } noexcept -> std::same_as<bool>;
};

}  // namespace pipewright::inline v0::wire
