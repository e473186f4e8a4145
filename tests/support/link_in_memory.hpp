// SPDX-License-Identifier: Apache-2.0
#pragma once
// A link between threads of one process: under it wire::endpoint, which is MPI's and Gloo's transport, does all that it does between
// processes.

#include <cstddef>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/transport/wire/endpoint.hpp>

namespace support {

/// Where the bytes of all links are.
struct wires {
  struct receive {
    void* to;
    std::size_t bytes;
    bool is_done = false;
  };
  struct line {
    std::deque<std::vector<char>> sent;
    std::deque<std::shared_ptr<receive>> wanted;
  };
  std::mutex mutex;
  std::map<std::tuple<int, int, int>, line> lines;  // by source, destination and tag
};

class link_in_memory {
 public:
  using request = std::shared_ptr<wires::receive>;  // none for a send, which is over at once
  static constexpr std::size_t most_in_a_frame = 4096;

  link_in_memory(wires& over, int rank, int size) : wires_{over}, rank_{rank}, size_{size} {}
  int rank() const { return rank_; }
  int size() const { return size_; }
  bool wants_a_thread() const { return true; }

  request send(int peer, int tag, void const* from, std::size_t bytes) {
    std::lock_guard const lock(wires_.mutex);
    auto& line = wires_.lines[{rank_, peer, tag}];
    auto const* const first = static_cast<char const*>(from);
    line.sent.emplace_back(first, first + bytes);
    match(line);
    return nullptr;
  }
  request receive(int peer, int tag, void* to, std::size_t bytes) {
    std::lock_guard const lock(wires_.mutex);
    auto made = std::make_shared<wires::receive>(to, bytes);
    auto& line = wires_.lines[{peer, rank_, tag}];
    line.wanted.push_back(made);
    match(line);
    return made;
  }
  bool test(request& of) {
    if (of == nullptr) return true;
    std::lock_guard const lock(wires_.mutex);
    return of->is_done;
  }
  bool cancel(request& of) noexcept {
    if (of == nullptr) return true;
    std::lock_guard const lock(wires_.mutex);
    for (auto& [where, line] : wires_.lines) std::erase(line.wanted, of);
    return true;
  }

 private:
  static void match(wires::line& of) {
    for (; !of.sent.empty() && !of.wanted.empty(); of.sent.pop_front(), of.wanted.pop_front()) {
      auto& to = *of.wanted.front();
      if (of.sent.front().size() != to.bytes) throw pipewright::error("a send and its receive differ in size");
      std::memcpy(to.to, of.sent.front().data(), to.bytes);
      to.is_done = true;
    }
  }

  wires& wires_;
  int rank_, size_;
};
static_assert(pipewright::wire::link<link_in_memory>);

}  // namespace support
