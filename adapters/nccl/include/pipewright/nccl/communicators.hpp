// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <pipewright/nccl/check.hpp>

namespace pipewright::inline v0::nccl {

namespace detail {

/// Runs each job on a thread of its own and returns when all have ended, but not later than the limit: one that is
/// stuck is left behind.
inline void run_apart(std::vector<std::function<void()>> jobs, std::chrono::milliseconds limit) {
  struct count {
    std::mutex mutex;
    std::condition_variable changed;
    std::size_t left;
  };
  auto const shared = std::make_shared<count>();
  shared->left = jobs.size();
  for (auto& job : jobs)
    std::thread([shared, job = std::move(job)] {
      job();
      std::lock_guard const lock(shared->mutex);
      --shared->left;
      shared->changed.notify_one();
    }).detach();
  std::unique_lock lock(shared->mutex);
  shared->changed.wait_for(lock, limit, [&] { return shared->left == 0; });
}

}  // namespace detail

/// A rank's communicators, none of whose calls block: made, looked at and ended together. Of one thread.
class communicators {
 public:
  explicit communicators(int device) : device_{device} {}
  communicators(communicators const&) = delete;
  communicators& operator=(communicators const&) = delete;
  ~communicators() { abort(); }

  /// Begins one of `size` ranks, which is made once its state is ncclSuccess. Of the id's communicator this rank is the
  /// one with that number. Throws error where NCCL cannot work here.
  ncclComm_t begin(int size, ncclUniqueId const& id, int rank, int most_blocks) {
    ncclConfig_t how = NCCL_CONFIG_INITIALIZER;
    how.blocking = 0;
    how.maxCTAs = most_blocks;
    ncclComm_t made = nullptr;
    auto const code = ncclCommInitRankConfig(&made, size, id, rank, &how);
    if (made != nullptr) owned_.push_back(made);
    check(code, "ncclCommInitRankConfig", made);
    return made;
  }
  /// Looks after one that is another's. It is revoked with the others, not ended.
  ncclComm_t borrow(ncclComm_t of) {
#if NCCL_VERSION_CODE < NCCL_VERSION(2, 28, 7)
    throw error(
        "pipewright: a communicator of one's own needs NCCL 2.28.7, whose ncclCommRevoke stops it without ending it, "
        "and "
        "this nccl.h is older; leave it to the endpoint to make one (one_communicator)");
#endif
    return borrowed_ = of;
  }

  /// What has become of its calls: ncclSuccess, ncclInProgress, or what has gone wrong since.
  static ncclResult_t state_of(ncclComm_t of) {
    ncclResult_t state = ncclSuccess;
    check(ncclCommGetAsyncError(of, &state), "ncclCommGetAsyncError", of);
    return state;
  }

  /// Stops what is under way and ends all; in seconds, whatever other ranks do.
  void abort() noexcept {
    std::vector<std::function<void()>> jobs;
    auto const borrowed = std::exchange(borrowed_, nullptr);
    try {
      // All at once: what ends one may wait for a kernel of another.
      for (auto const each : std::exchange(owned_, {}))
        jobs.emplace_back([each, device = device_] {
          cudaSetDevice(device);
          revoke(each);
          ncclCommAbort(each);
        });
      if (borrowed != nullptr)
        jobs.emplace_back([borrowed, device = device_] {
          cudaSetDevice(device);
          revoke(borrowed);
        });
      detail::run_apart(std::move(jobs), std::chrono::seconds(5));
    } catch (std::exception const&) {  // no memory, or no threads: they are left behind
    }
  }
  /// Ends all, of which nothing is under way.
  void finish() noexcept {
    borrowed_ = nullptr;
    if (owned_.empty()) return;
    try {
      detail::run_apart({[all = std::exchange(owned_, {}), device = device_] {
                          cudaSetDevice(device);
                          for (auto const each : all) ncclCommFinalize(each);
                          for (auto const each : all) settle(each);
                          for (auto const each : all) ncclCommDestroy(each);
                        }},
                        std::chrono::seconds(5));
    } catch (std::exception const&) {}
  }

 private:
  /// Waits a while for a call that needs no other rank.
  static void settle(ncclComm_t of) {
    auto const limit = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    for (ncclResult_t state = ncclInProgress; ncclCommGetAsyncError(of, &state) == ncclSuccess &&
                                              state == ncclInProgress && std::chrono::steady_clock::now() < limit;)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  static void revoke([[maybe_unused]] ncclComm_t of) {
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 7)
    if (ncclCommRevoke(of, NCCL_REVOKE_DEFAULT) == ncclInProgress) settle(of);
#endif
  }

  int const device_;
  std::vector<ncclComm_t> owned_;
  ncclComm_t borrowed_ = nullptr;
};

}  // namespace pipewright::inline v0::nccl
