// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <pipewright/cuda/context.hpp>
#include <pipewright/nccl/communicators.hpp>
#include <pipewright/transport/sentences.hpp>
#include <pipewright/transport/transport.hpp>

namespace pipewright::inline v0::nccl::detail {

/// Ends every rank's part with one sentence, the first reason that any of them gives: a deadline that has passed, a fault that NCCL
/// reports, whatever is thrown here, an abort elsewhere. Knows the control transport and the communicators, none of the transfers.
template<transport Control> class guard {
  using clock = std::chrono::steady_clock;

 public:
  /// The deadline in seconds; 0 or less: for ever.
  guard(Control& control, cuda::context& where, communicators& of, double deadline)
      : control_{control}, where_{where}, communicators_{of}, deadline_{deadline} {}
  guard(guard const&) = delete;
  guard& operator=(guard const&) = delete;

  // ---- sentences ---------------------------------------------------------------------------------------------------
  /// Lets sentences say where the rank is, instead of its rank alone; asked then only.
  void locate(std::function<std::string()> where) { place_ = std::move(where); }
  std::string located() const { return place_ ? place_() + ":" : pipewright::detail::spelled_rank(control_.rank()); }
  /// The deadline's, for what was awaited `where`: "rank 1 waited 60 s on its device for ..".
  [[noreturn]] void fail_late(char const* where, std::string const& awaited) {
    fail(located() + " waited " + pipewright::detail::spelled_seconds(deadline_) + where + " for " + awaited);
  }

  // ---- looking -----------------------------------------------------------------------------------------------------
  bool is_late(clock::duration waited) const {
    return deadline_ > 0 && std::chrono::duration<double>(waited).count() > deadline_;
  }
  /// Looks until is_done(), and does what is to be done meanwhile(); awaited() says for what, where that takes too long.
  void wait_until(auto&& is_done, auto&& awaited, auto&& meanwhile) {
    auto const start = clock::now();
    for (int looks = 0; !is_done(); ++looks) {
      meanwhile();
      if (is_late(clock::now() - start)) fail_late("", awaited());
      if (looks < eager_looks) std::this_thread::yield();
      else std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
  /// Whether the last call on a communicator is in progress. Throws where it has failed.
  bool is_busy(ncclComm_t of, std::string const& what) {
    auto const state = communicators::state_of(of);
    if (state != ncclSuccess && state != ncclInProgress)
      fail(located() + " has lost " + what + ": " + words_for(state, of));
    return state == ncclInProgress;
  }
  /// From now on asks the control transport whether all are stopped, by polling one of its transfers that is complete.
  void ask_by(ticket complete) { complete_ = complete; }
  /// Throws the first reason, once there is one.
  void throw_if_stopped() {
    if (complete_) control_.poll(*complete_);
    if (stopped_) throw error(reason_);
  }
  /// The same, of ranks whose word is still on its way, too.
  void hear() {
    control_.progress();
    throw_if_stopped();
  }

  // ---- stopping ----------------------------------------------------------------------------------------------------
  bool has_stopped() const { return stopped_; }
  void stop(std::string_view why) noexcept {
    if (std::exchange(stopped_, true)) return;
    try {
      reason_ = why;
    } catch (std::exception const&) {  // there is no memory to say why
    }
    control_.abort(why);
    where_.drop_steps();
    communicators_.abort();
  }
  [[noreturn]] void fail(std::string const& why) {
    stop(why);
    throw error(why);
  }
  /// What work() throws stops all ranks.
  auto run(auto&& work) {
    try {
      return work();
    } catch (std::exception const& e) {
      stop(e.what());
      throw;
    }
  }

 private:
  static constexpr int eager_looks = 1000;  // some milliseconds

  Control& control_;
  cuda::context& where_;
  communicators& communicators_;
  double const deadline_;
  std::function<std::string()> place_;
  std::optional<ticket> complete_;
  bool stopped_ = false;
  std::string reason_;
};

}  // namespace pipewright::inline v0::nccl::detail
