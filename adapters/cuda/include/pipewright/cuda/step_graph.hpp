// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/queue.hpp>
#include <pipewright/cuda/shared_steps.hpp>

namespace pipewright::inline v0::cuda {

/// Runs a rank's steps as CUDA graphs. A step's work is written down while its host code runs; when the host waits for the device, the
/// graph of what was written is launched, which is captured where no step before did the same on the same memory. The first few
/// steps, which make buffers and choose algorithms, are queued as ever. What changes from step to step must lie in memory, not in
/// arguments: where no step is like one before, steps are queued as ever, and why_not() says so.
class step_graph final : detail::step_writer {
 public:
  /// For a rank that has its device for itself.
  explicit step_graph(context& where)
      : where_{where}, own_{std::make_unique<shared_steps>()}, shared_{*own_}, rank_{0} {
    where_.keep_steps([this] { shared_.drop(); });
  }
  /// For one of the ranks of a device (loopback), which all run the same steps by one of these. Both outlive it.
  /// Throws error where the context's rank is none of theirs.
  step_graph(context& where, shared_steps& of_all)
      : where_{where}, shared_{of_all}, rank_{of_all.checked(where.rank())} {}
  step_graph(step_graph const&) = delete;
  step_graph& operator=(step_graph const&) = delete;
  ~step_graph() {
    if (own_ != nullptr) where_.keep_steps({});
    shared_.end(rank_, true);
  }

  /// Runs step(), which waits for the device where it must: what was written down until then is launched first.
  void operator()(auto&& step) {
    if (steps_++ < warm_up) return step();
    where_.wait();  // memory that the host fills may be used again
    if (!shared_.begin(rank_)) return step();
    where_.write_down(this);
    detail::notebook_here = shared_.notes_;
    try {
      step();
      where_.wait();
    } catch (...) {
      try {
        where_.hand_over();              // other ranks' work may wait for it
      } catch (std::exception const&) {  // they will hear of the first
      }
      end();
      throw;
    }
    end();
  }

  /// How many graphs there are, of all ranks together.
  std::size_t graphs() const { return shared_.told_of(&graph_cache::graphs); }
  /// Launches of a graph so far.
  std::size_t launches() const { return shared_.told_of(&graph_cache::launches); }
  /// Why steps are not run as graphs; empty where they are.
  std::string why_not() const { return shared_.told_of(&graph_cache::why_not); }

 private:
  static constexpr int warm_up = 2;

  void end() {
    detail::notebook_here.reset();
    where_.write_down(nullptr);
    shared_.end(rank_, false);
  }
  void hand_over() override { shared_.hand_over(rank_); }
  std::uint64_t told() override { return shared_.told(); }
  void tell() override { shared_.tell(); }
  bool await_more(std::uint64_t than) override { return shared_.await_more(rank_, than); }
  void go_on() override { shared_.go_on(rank_); }

  context& where_;
  std::unique_ptr<shared_steps> const own_;
  shared_steps& shared_;
  int const rank_;
  int steps_ = 0;
};

}  // namespace pipewright::inline v0::cuda
