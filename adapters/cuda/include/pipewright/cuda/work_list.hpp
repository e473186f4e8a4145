// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <new>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <pipewright/cuda/check.hpp>

namespace pipewright::inline v0::cuda {

/// A function that queues something on a stream, and says how that went. What it is given is copied byte by byte.
template<class... Args> using queueing = cudaError_t (*)(cudaStream_t, Args...);

/// Work of streams, written down: calls and their arguments. Two lists are equal where each stream does the same on the same memory;
/// in which order the streams' hosts came to it makes no difference, since what waits for another stream's work says so by a call.
class work_list {
 public:
  template<class... Args> void add(char const* name, cudaStream_t on, queueing<Args...> call, Args const&... given) {
    static_assert((... && std::is_trivially_copyable_v<Args>),
                  "pipewright: what is queued must be bytes that can be copied");
    using all = std::tuple<queueing<Args...>, Args...>;
    auto& to = lanes_[on];
    constexpr std::size_t step = alignof(std::max_align_t);
    std::size_t const at = (to.bytes.size() + step - 1) / step * step;
    to.bytes.resize(at + sizeof(all));  // zeros, so that gaps are equal too
    new (to.bytes.data() + at) all(call, given...);
    to.calls.push_back({name, at, [](std::byte const* from, cudaStream_t stream) {
                          return std::apply([&](auto f, auto const&... each) { return f(stream, each...); },
                                            *std::launder(reinterpret_cast<all const*>(from)));
                        }});
    turns_.push_back(on);
  }
  /// Queues it all, in the order in which it was written.
  void play() const {
    std::map<cudaStream_t, std::size_t> played;
    for (cudaStream_t const on : turns_) {
      lane const& from = lanes_.find(on)->second;
      call const& next = from.calls[played[on]++];
      check(next.play(from.bytes.data() + next.at, on), next.name);
    }
  }
  bool empty() const { return turns_.empty(); }
  /// Calls visit(stream) for each that has work here.
  void for_each_stream(auto&& visit) const {
    for (auto const& [on, lane] : lanes_) visit(on);
  }

  friend bool operator==(work_list const& a, work_list const& b) { return a.lanes_ == b.lanes_; }

 private:
  struct call {
    char const* name;
    std::size_t at;
    cudaError_t (*play)(std::byte const*, cudaStream_t);

    friend bool operator==(call const& a, call const& b) { return a.play == b.play && a.at == b.at; }
  };
  struct lane {
    std::vector<call> calls;
    std::vector<std::byte> bytes;

    friend bool operator==(lane const&, lane const&) = default;
  };
  std::map<cudaStream_t, lane> lanes_;
  std::vector<cudaStream_t> turns_;  // whose next call is to be made
};

}  // namespace pipewright::inline v0::cuda
