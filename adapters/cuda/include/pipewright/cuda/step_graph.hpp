// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/queue.hpp>

namespace pipewright::inline v0::cuda {

/// Runs a rank's steps as CUDA graphs. A step's work is written down while its host code runs; where the same has been done before on
/// the same memory, the graph of it is launched, else it is captured as one. So there is a graph for each step of a period in which
/// buffers come back; the first few steps, which make buffers and choose algorithms, are queued as ever. What changes from step to
/// step must lie in memory, not in arguments: where no step is like one before, steps are queued as ever, and why_not() says so.
///
/// For ranks whose transfers do not go by streams of their own: one rank on its device.
class step_graph {
 public:
  explicit step_graph(context& where) : where_{where}, list_(where.stream()) {}
  step_graph(step_graph const&) = delete;
  step_graph& operator=(step_graph const&) = delete;
  ~step_graph() { where_.hand_over_to({}); }

  /// Runs step(), which waits for the device where it must: what was written down until then is launched first.
  void operator()(auto&& step) {
    if (steps_++ < warm_up || !why_not_.empty()) return step();
    where_.wait();  // memory that the host fills may be used again
    where_.hand_over_to([this] { issue(); });
    detail::list_here = &list_;
    try {
      step();
      where_.wait();  // what others wait for was recorded before this step
    } catch (...) {
      forget();
      throw;
    }
    forget();
    if (!why_not_.empty()) graphs_.clear();
  }

  /// How many graphs there are.
  std::size_t graphs() const { return graphs_.size(); }
  /// Launches of a graph so far.
  std::size_t launches() const { return launches_; }
  /// Why steps are not run as graphs; empty where they are.
  std::string const& why_not() const { return why_not_; }

 private:
  static constexpr int warm_up = 2;
  static constexpr std::size_t most = 32;  // graphs that are kept

  struct destroy {
    void operator()(cudaGraphExec_t of) const { cudaGraphExecDestroy(of); }
  };
  struct one {
    work_list of;
    std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, destroy> graph;
  };

  /// Queues what has been written down, once, whatever comes of it.
  void issue() {
    if (list_.empty()) return;
    work_list const now = std::exchange(list_, work_list(where_.stream()));
    detail::at_once const queued;
    auto found = std::ranges::find(graphs_, now, &one::of);
    if (found == graphs_.end() && why_not_.empty()) {
      if (graphs_.size() == most)
        why_not_ = "no step has been like one of the " + std::to_string(most) +
                   " before: something changes in the arguments of its kernels, as dropout's random numbers do";
      else capture(now);
      if (why_not_.empty()) found = std::prev(graphs_.end());
    }
    if (why_not_.empty()) {
      auto const code = cudaGraphLaunch(found->graph.get(), where_.stream());
      if (code == cudaSuccess) {
        ++launches_;
        return;
      }
      static_cast<void>(cudaGetLastError());
      why_not_ = std::string("CUDA cannot launch a step's graph: ") + cudaGetErrorString(code);
    }
    now.play(where_.stream());
  }
  void capture(work_list const& of) {
    cudaGraph_t made = nullptr;
    cudaGraphExec_t ready = nullptr;
    std::string refused;
    auto code = cudaStreamBeginCapture(where_.stream(), cudaStreamCaptureModeRelaxed);
    if (code == cudaSuccess) {
      try {
        of.play(where_.stream());
      } catch (std::exception const& e) {
        refused = e.what();
      }
      code = cudaStreamEndCapture(where_.stream(), &made);
    }
    if (code == cudaSuccess && refused.empty()) code = cudaGraphInstantiate(&ready, made, 0);
    if (made != nullptr) cudaGraphDestroy(made);
    if (code == cudaSuccess && refused.empty()) {
      graphs_.push_back({of, decltype(one::graph)(ready)});
      return;
    }
    static_cast<void>(cudaGetLastError());
    why_not_ = "CUDA cannot capture a step: " + (refused.empty() ? std::string(cudaGetErrorString(code)) : refused);
  }
  void forget() {
    detail::list_here = nullptr;
    list_.clear();
    where_.hand_over_to({});
  }

  context& where_;
  int steps_ = 0;
  work_list list_;
  std::vector<one> graphs_;
  std::size_t launches_ = 0;
  std::string why_not_;
};

}  // namespace pipewright::inline v0::cuda
