// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/partition/cluster.hpp>
#include <pipewright/profile/median.hpp>
#include <pipewright/transport/message.hpp>
#include <pipewright/transport/transport.hpp>

namespace pipewright::inline v0 {

/// How links are measured.
struct link_options {
  std::size_t bytes = std::size_t{4} << 20;  ///< of the large value, as large as the boundaries that will travel
  int warm_up = 5;                           ///< round trips that do not count
  int rounds = 30;                           ///< that do
};

namespace detail {

/// Seconds there and back, by two, of a value of that many bytes between rank a, which knows, and rank b; 0 on b.
double median_hop(auto& here, int a, int b, std::size_t bytes, link_options const& how) {
  int const there = here.open({a, b, traffic::activation}), back = here.open({b, a, traffic::gradient});
  using clock = std::chrono::steady_clock;
  std::vector<std::byte> out(bytes), in(bytes);
  std::vector<double> hops;
  auto const arrived = [&] {
    if (in.size() != bytes)
      throw error("a link carried " + std::to_string(in.size()) + " bytes of " + std::to_string(bytes));
  };
  for (int i = 0; i < how.warm_up + how.rounds; ++i) {
    out.resize(bytes);  // a send may leave anything in its slot
    auto const begun = clock::now();
    if (here.rank() == a) {
      auto const answer = here.post(back, message_of(in));
      here.wait(here.send(there, message_of(out)));
      here.wait(answer);
      if (i >= how.warm_up) hops.push_back(std::chrono::duration<double>(clock::now() - begun).count() / 2);
    } else {
      here.wait(here.post(there, message_of(in)));
      here.wait(here.send(back, message_of(out)));
    }
    arrived();
  }
  return median(hops);
}

}  // namespace detail

/// Measures the links that a pipeline uses, between each rank and the next, and from the last to the first, one after another
/// while all else is quiet: half of the median round trip of a value of a few bytes, the latency, and of a large one. The
/// bandwidth is infinite where more bytes take no longer, as between threads that pass memory on. All ranks call it at start-up,
/// with the same arguments, and learn the same. None on one rank. Takes 2 (warm_up + rounds) round trips for each link, within the
/// transport's deadline, since the other ranks wait meanwhile. Best on an endpoint of its own, which takes its buffers along.
/// Throws error where there is nothing to be measured, and what the transport throws.
template<transport T> std::vector<device_link> profile_links(T& here, link_options const& how = {}) {
  constexpr std::size_t few = 8;
  if (how.bytes <= few || how.rounds < 1 || how.warm_up < 0)
    throw error("links are measured with values of more than " + std::to_string(few) +
                " bytes, at least one round, and a warm-up of 0 or more");
  int const ranks = here.size(), rank = here.rank(), links = ranks > 2 ? ranks : ranks - 1;
  std::vector<double> all;  // latency and bandwidth of the links so far
  std::vector<double> own;
  for (int a = 0; a < links; ++a) {
    int const b = (a + 1) % ranks;
    here.agree("pipewright: links are measured");  // one after another
    if (rank != a && rank != b) continue;
    double const small = detail::median_hop(here, a, b, few, how),
                 large = detail::median_hop(here, a, b, how.bytes, how);
    if (rank == a)
      own = {small, large > small ? static_cast<double>(how.bytes - few) / (large - small)
                                  : std::numeric_limits<double>::infinity()};
  }
  auto const up = [&](int from) { return here.open({from, from + 1, traffic::activation}); };
  auto const down = [&](int to) { return here.open({to + 1, to, traffic::gradient}); };
  if (rank > 0) here.wait(here.post(up(rank - 1), message_of(all)));
  all.insert(all.end(), own.begin(), own.end());
  auto told = all;
  if (rank + 1 < ranks) {
    here.wait(here.send(up(rank), message_of(told)));
    here.wait(here.post(down(rank), message_of(all)));
  }
  told = all;
  if (rank > 0) here.wait(here.send(down(rank - 1), message_of(told)));
  std::vector<device_link> found;
  for (int a = 0; a < links; ++a)
    found.push_back(
        {a, (a + 1) % ranks, all[2 * static_cast<std::size_t>(a)], all[2 * static_cast<std::size_t>(a) + 1]});
  return found;
}

}  // namespace pipewright::inline v0
