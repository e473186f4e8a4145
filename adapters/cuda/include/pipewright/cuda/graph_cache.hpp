// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <pipewright/cuda/notebook.hpp>
#include <pipewright/cuda/work_list.hpp>

namespace pipewright::inline v0::cuda {

/// Queues lists of work as CUDA graphs: where an equal one has been queued before its graph is launched, else it is captured as one.
/// So there is a graph for each step of a period in which buffers come back. Where CUDA captures nothing, or no list is like one
/// before, lists are played call by call, and why_not() says so.
class graph_cache {
 public:
  /// `may_capture`: nobody else uses the list's streams at present.
  void launch(work_list const& list, cudaStream_t on, bool may_capture) {
    auto found = std::ranges::find(graphs_, list, &one::of);
    if (found == graphs_.end() && why_not_.empty() && may_capture) {
      if (graphs_.size() == most)
        why_not_ = "no step has been like one of the " + std::to_string(most) +
                   " before: something changes in the arguments of its kernels";
      else capture(list, on);
      if (why_not_.empty()) found = std::prev(graphs_.end());
    }
    if (found != graphs_.end() && why_not_.empty()) {
      auto const code = cudaGraphLaunch(found->graph.get(), on);
      if (code == cudaSuccess) return static_cast<void>(++launches_);
      static_cast<void>(cudaGetLastError());
      why_not_ = std::string("CUDA cannot launch a step's graph: ") + cudaGetErrorString(code);
    }
    play(list, on);
  }
  /// Frees all graphs; CUDA frees one that is running once it has ended.
  void clear() { graphs_.clear(); }

  std::size_t graphs() const { return graphs_.size(); }
  /// Of graphs so far.
  std::size_t launches() const { return launches_; }
  /// Why lists are played call by call; empty where they are not.
  std::string const& why_not() const { return why_not_; }

 private:
  static constexpr std::size_t most = 32;  // graphs that are kept

  struct destroy {
    void operator()(cudaGraphExec_t of) const { cudaGraphExecDestroy(of); }
  };
  struct one {
    work_list of;
    std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, destroy> graph;
  };

  /// All streams of the list begin after `on`, which then waits for them.
  void play(work_list const& list, cudaStream_t on) {
    if (point_ == nullptr) point_ = detail::make_event(cudaEventDisableTiming);
    check(cudaEventRecord(point_.get(), on), "cudaEventRecord");
    list.for_each_stream(
        [&](cudaStream_t each) { check(cudaStreamWaitEvent(each, point_.get(), 0), "cudaStreamWaitEvent"); });
    list.play();
    list.for_each_stream([&](cudaStream_t each) {
      check(cudaEventRecord(point_.get(), each), "cudaEventRecord");
      check(cudaStreamWaitEvent(on, point_.get(), 0), "cudaStreamWaitEvent");
    });
  }
  void capture(work_list const& list, cudaStream_t on) {
    cudaGraph_t made = nullptr;
    cudaGraphExec_t ready = nullptr;
    std::string refused;
    auto code = cudaStreamBeginCapture(on, cudaStreamCaptureModeRelaxed);
    if (code == cudaSuccess) {
      try {
        play(list, on);
      } catch (std::exception const& e) {
        refused = e.what();
      }
      code = cudaStreamEndCapture(on, &made);
    }
    if (code == cudaSuccess && refused.empty()) code = cudaGraphInstantiate(&ready, made, 0);
    if (made != nullptr) cudaGraphDestroy(made);
    if (code == cudaSuccess && refused.empty()) {
      graphs_.push_back({list, decltype(one::graph)(ready)});
      return;
    }
    static_cast<void>(cudaGetLastError());
    why_not_ = "CUDA cannot capture a step: " + (refused.empty() ? std::string(cudaGetErrorString(code)) : refused);
  }

  std::vector<one> graphs_;
  std::size_t launches_ = 0;
  std::string why_not_;
  detail::handle<cudaEvent_t> point_;
};

}  // namespace pipewright::inline v0::cuda
