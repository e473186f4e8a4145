// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <exception>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/transport/in_process/endpoint.hpp>

namespace pipewright::inline v0::in_process {

namespace detail {

/// One thread a rank, and what becomes of them.
class runner {
 public:
  runner(int ranks, options how)
      : on_hang_(how.on_hang),
        grace_(seconds(how.grace >= 0     ? how.grace
                       : how.deadline > 0 ? how.deadline
                                          : 60)),
        all_(ranks, std::move(how)),
        shared_(all_.shared_) {}

  template<class F> void run(F& f) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < all_.size(); ++rank) {
      try {
        threads.emplace_back([&, rank] { run_rank(rank, f); });
      } catch (std::exception const& failure) {
        failed(rank, std::string("no thread can be started for it: ") + failure.what());
        shared_.leave(rank);
      }
    }
    await_all();
    for (auto& each : threads) each.join();
    if (shared_.aborted()) rethrow();
  }

 private:
  template<class F> void run_rank(int rank, F& f) {
    sleep_precisely();
    try {
      endpoint here(all_, rank);
      f(here);
    } catch (std::exception const& failure) {
      failed(rank, failure.what());
    } catch (...) {
      failed(rank, "it threw what is no std::exception");
    }
    shared_.leave(rank);
  }

  void failed(int rank, std::string_view why) {
    shared_.abort(why, rank);
    std::lock_guard lock(shared_.mutex());
    if (!first_ && shared_.aborted_by() == rank) first_ = std::current_exception();
  }

  /// Returns when all ranks have; once one has failed, the others have a while to do so.
  void await_all() {
    std::unique_lock lock(shared_.mutex());
    while (shared_.returned() < all_.size()) {
      if (!shared_.aborted()) {
        shared_.changed().wait(lock);
        continue;
      }
      auto const before = shared_.returned();
      if (shared_.changed().wait_for(lock, grace_, [&] { return shared_.returned() > before; })) continue;
      auto const stuck = shared_.ranks_that([](auto& each) { return !each.has_returned(); });
      auto const sentence = shared_.reason() + "; since then the function of " + stuck + " has not returned";
      on_hang_(sentence);
      end_process(sentence);
    }
  }

  [[noreturn]] void rethrow() const {
    if (!first_) throw error(shared_.reason());
    try {
      std::rethrow_exception(first_);
    } catch (...) {
      std::throw_with_nested(error(shared_.reason()));
    }
  }

  void (*const on_hang_)(std::string_view);
  clock::duration const grace_;
  in_process::world all_;
  detail::world& shared_;
  std::exception_ptr first_;  // what the rank that aborted threw; under the mutex
};

template<class Plan>
concept names_its_ranks = requires(Plan const& plan) {
  { plan.view().facts.ranks } -> std::convertible_to<int>;
};
template<class Plan>
concept is_view_of_ranks = requires(Plan const& plan) {
  { plan.facts.ranks } -> std::convertible_to<int>;
};

}  // namespace detail

/// Runs f(endpoint&) on one thread for each rank and returns when all have ended. If one throws or aborts, the others'
/// waits throw, and when all have ended a pipewright::error with that first failure's text and rank is thrown (the
/// exception itself nested in it). A rank that does not return within options::grace after that is reported by
/// options::on_hang, which ends the process.
template<class F> requires std::invocable<F&, endpoint&> void run(int ranks, F&& f, options how = {}) {
  detail::runner(ranks, std::move(how)).run(f);
}

/// The same for the ranks of a plan.
template<class Plan, class F>
requires(detail::names_its_ranks<Plan> || detail::is_view_of_ranks<Plan>) && std::invocable<F&, endpoint&>
void run(Plan const& plan, F&& f, options how = {}) {
  if constexpr (detail::names_its_ranks<Plan>) run(plan.view().facts.ranks, f, std::move(how));
  else run(plan.facts.ranks, f, std::move(how));
}

}  // namespace pipewright::inline v0::in_process
