// SPDX-License-Identifier: Apache-2.0
#pragma once
// How much of a large transfer passes while both ranks compute: 64 MB from rank 0 to rank 1, each of them busy on its core for
// 100 ms meanwhile, then waiting. Over an endpoint, and after its end over the library alone: an endpoint that only lives moves the
// bytes of others too.

#include <cstddef>
#include <cstdio>
#include <vector>

#include <pipewright/transport/message.hpp>
#include <pipewright/transport/transport.hpp>

#include "command_line.hpp"

namespace benchmarks {

inline constexpr std::size_t overlap_bytes = 64'000'000;

/// Seconds that this rank waits for after its work, each time; the first, which makes buffers, does not count.
std::vector<double> seconds_left(int repeats, auto meet, auto begin, auto wait) {
  std::vector<double> all;
  for (int i = 0; i < repeats + 1; ++i) {
    meet();
    begin();
    double const free = seconds() + 0.1;
    while (seconds() < free) continue;
    wait();
    if (i > 0) all.push_back(seconds() - free);
  }
  return all;
}

std::vector<double> seconds_left(int repeats, pipewright::transport auto& here) {
  if (here.size() != 2) throw pipewright::error("start 2 processes");
  int const channel = here.open({0, 1, pipewright::traffic::activation});
  std::vector<char> value;
  pipewright::ticket begun;
  return seconds_left(
      repeats, [&] { here.agree("begin"); },
      [&] {
        value.resize(overlap_bytes);
        auto const slot = pipewright::message_of(value);
        begun = here.rank() == 0 ? here.send(channel, slot) : here.post(channel, slot);
      },
      [&] { here.wait(begun); });
}

inline void print_overlap(int rank, std::vector<double> const& ours, std::vector<double> const& bare) {
  std::printf("{\"rank\": %d, \"ours\": %s, \"bare\": %s}\n", rank, json(ours).c_str(), json(bare).c_str());
}

}  // namespace benchmarks
