// SPDX-License-Identifier: Apache-2.0
#pragma once
// Sentences about ranks that every transport says alike.

#include <cstdint>
#include <string>
#include <string_view>

#include <pipewright/error.hpp>
#include <pipewright/schedule/action.hpp>

namespace pipewright::inline v0::detail {

inline std::string spelled_rank(int rank) { return "rank " + std::to_string(rank); }

/// A sentence with the rank that says it, unless it begins so; of no rank in particular where that is negative.
inline std::string with_rank(int rank, std::string_view why) {
  auto const name = spelled_rank(rank);
  bool const is_named =
      why.starts_with(name) && (why.size() == name.size() || why[name.size()] < '0' || why[name.size()] > '9');
  return rank < 0 || is_named ? std::string(why) : name + ": " + std::string(why);
}

inline std::string spelled_seconds(double s) {
  auto text = std::to_string(s);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text + " s";
}

/// "the gradient channel from rank 1 to rank 0".
inline std::string spelled(channel_key key) {
  constexpr char const* names[] = {"activation", "gradient", "tied gradient", "step"};
  return std::string("the ") + names[static_cast<int>(key.carries)] + " channel from " + spelled_rank(key.source) +
         " to " + spelled_rank(key.destination);
}

/// "transfer 3 of the gradient channel from rank 1 to rank 0".
inline std::string spelled(channel_key of, std::uint64_t number) {
  return "transfer " + std::to_string(number) + " of " + spelled(of);
}

/// Throws where that rank of `size` cannot open the channel.
inline void check_ends(channel_key key, int rank, int size) {
  auto const exists = [&](int each) { return 0 <= each && each < size; };
  if (!exists(key.source) || !exists(key.destination) || key.source == key.destination ||
      (key.source != rank && key.destination != rank))
    throw error(spelled_rank(rank) + " of " + std::to_string(size) + " cannot open " + spelled(key) +
                "; a channel joins two different ranks and is opened by these two");
}

/// Why that rank cannot `what`, which is post or send, on one of its channels.
inline std::string wrong_way(channel_key key, int rank, char const* what) {
  return spelled_rank(rank) + " cannot " + what + " on " + spelled(key) + "; its " +
         (key.source == rank ? "source sends" : "destination posts");
}

inline std::string unlike_types(channel_key of, std::uint64_t number, std::string_view sent,
                                std::string_view received) {
  return spelled(of, number) + " is sent as " + std::string(sent) + " but received as " + std::string(received) +
         "; the two stages' boundary types differ, or the order of sends and posts";
}

/// Of a value that the host or a device cannot be given as it is.
inline std::string parts_elsewhere() {
  return "pipewright: a value is received into one whose parts lie elsewhere, on the host or on the device, than the "
         "sender's; keep the boundary type's parts in the same places on both ranks";
}

/// `who` is where a rank is, `peer` the channel's other end.
inline std::string gone_without(std::string const& who, channel_key of, std::uint64_t number, int peer) {
  return who + " needs " + spelled(of, number) + ", but " + spelled_rank(peer) + " has returned without it";
}

/// "rank 1", "ranks 0 and 2", "ranks 0, 2 and 3": those of `size` with chosen(rank); at least one.
inline std::string ranks_that(int size, auto&& chosen) {
  std::string list;
  int count = 0, last = -1;
  for (int rank = 0; rank < size; ++rank) {
    if (!chosen(rank)) continue;
    if (count++) list += (count > 2 ? ", " : "") + std::to_string(last);
    last = rank;
  }
  return count == 1 ? spelled_rank(last) : "ranks " + list + " and " + std::to_string(last);
}

/// What the ranks that say the same as rank `one` say.
inline std::string opinion(int size, auto&& said, int one) {
  return ranks_that(size, [&](int rank) { return said(rank) == said(one); }) + " said \"" + std::string(said(one)) +
         '"';
}

/// Who said what, in a sentence; empty where all of `size` ranks say the same, which needs no memory. said(rank) is a text.
inline std::string disagreement(int size, auto&& said) {
  std::string fault;
  int opinions = 0;
  for (int first = 0; first < size; ++first) {
    bool is_new = true;
    for (int before = 0; before < first; ++before) is_new = is_new && said(before) != said(first);
    if (!is_new) continue;
    if (++opinions == 2) fault = opinion(size, said, 0);
    if (opinions >= 2) fault += "; " + opinion(size, said, first);
  }
  if (opinions < 2) return {};
  return "the ranks do not agree on what to run: " + fault + "; start every rank with one plan and one configuration";
}

}  // namespace pipewright::inline v0::detail
