// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <pipewright/cuda/queue.hpp>
#include <pipewright/nccl/group.hpp>
#include <pipewright/nccl/guard.hpp>

namespace pipewright::inline v0::nccl::detail {

struct channel;
struct transfer;

/// A stream on which a communicator moves values, one group after the other.
class lane {
 public:
  lane(ncclComm_t over, std::string what, bool is_shared)
      : over_{over}, what_{std::move(what)}, is_shared_{is_shared} {}
  lane(lane const&) = delete;
  lane& operator=(lane const&) = delete;

  ncclComm_t over() const { return over_; }
  /// Its name in sentences.
  std::string const& what() const { return what_; }
  cudaStream_t stream() const { return stream_.get(); }
  /// Whether by all channels. Then sends are kept back, to leave together with a receive.
  bool is_shared() const { return is_shared_; }
  std::vector<std::pair<channel*, transfer*>> kept_back;

  /// Queues a group, or writes it down. When it returns, it is on the stream, or is written for it.
  template<class Control> void move(guard<Control>& guarded, group const& of) {
    if (cuda::detail::notebook_here != nullptr)
      return cuda::queue<group>("NCCL's transfers", stream(), group::play, of);
    of.call(stream());
    guarded.wait_until([&] { return !guarded.is_busy(over_, what_); }, [] { return "NCCL to queue a transfer"; },
                       [&] { guarded.hear(); });
  }

 private:
  ncclComm_t const over_;
  std::string const what_;
  bool const is_shared_;
  cuda::detail::handle<cudaStream_t> const stream_ = cuda::detail::make_stream();
};

}  // namespace pipewright::inline v0::nccl::detail
