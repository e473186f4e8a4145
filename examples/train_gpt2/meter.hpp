// SPDX-License-Identifier: Apache-2.0
// What an observer hears of one rank: how long it worked, and when.
#pragma once

#include <algorithm>
#include <chrono>
#include <ctime>
#include <thread>
#include <vector>

#include <pipewright/pipeline/observer.hpp>
#include <pipewright/trace/recorder.hpp>

#include "endpoint.hpp"

namespace trainer {

namespace pw = pipewright;

/// Seconds of processor time of the calling thread.
inline double thread_seconds() {
  std::timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// A rank's work in a stretch of time: a step, or a stream up to its drain.
struct stretch {
  double first = 0, last = 0, busy = 0;  ///< seconds; first and last on a clock that all ranks share
  bool empty() const { return busy == 0; }
};

/// Measures one rank's compute actions and updates, and makes a slow device of it: with a pace of 3 each action takes three times its
/// processor time. Where ranks outnumber cores, only such devices can run side by side, so that a bubble shows at all.
class meter {
  using clock = std::chrono::steady_clock;

 public:
  /// `watch`: whose times count, where it is not null; it then knows no pace.
  explicit meter(double pace, device_watch* watch = nullptr) : pace_{pace}, watch_{watch} {}

  void before(pw::event const& e) {
    if (watch_ != nullptr) return watch_->before(e);
    if (recording) kept_.before(e);
    if (!active_ || !is_work(e)) return;
    begun_ = clock::now();
    if (pace_ > 1) processor_ = thread_seconds();
  }
  void after(pw::event const& e) {
    if (watch_ != nullptr) return watch_->after(e);
    if (active_ && is_work(e)) {
      if (pace_ > 1)
        std::this_thread::sleep_until(begun_ +
                                      std::chrono::duration_cast<clock::duration>(
                                          std::chrono::duration<double>(pace_ * (thread_seconds() - processor_))));
      count(seconds(begun_), seconds(clock::now()));
    }
    if (recording) kept_.after(e);
  }
  /// Ends a stretch.
  void cut() {
    take();
    stretches.push_back(now_);
    now_ = {};
  }

  /// What was recorded.
  std::vector<pw::timed_action> actions() const { return watch_ != nullptr ? taken_ : kept_.actions(); }
  /// Evaluation begins (false) or ends, whose work does not count.
  void count_work(bool counts) {
    if (counts == active_) return;
    take();
    active_ = counts;
  }

  bool recording = false;  ///< for the trace
  std::vector<stretch> stretches;

 private:
  static bool is_work(pw::event const& e) {
    return pw::is_compute(e.instruction.what.what) || e.instruction.what.what == pw::kind::update;
  }
  void count(double begin, double end) {
    if (now_.empty()) now_.first = begin;
    now_.last = end;
    now_.busy += end - begin;
  }
  /// What the device has measured.
  void take() {
    if (watch_ == nullptr) return;
    for (auto const& a : watch_->take()) {
      if (!active_) continue;
      count(a.begin, a.end);
      if (recording) taken_.push_back(a);
    }
  }
  static double seconds(clock::time_point t) { return std::chrono::duration<double>(t.time_since_epoch()).count(); }

  double pace_, processor_ = 0;
  clock::time_point begun_{};
  stretch now_;
  bool active_ = true;
  device_watch* watch_;
  pw::recorder kept_;
  std::vector<pw::timed_action> taken_;
};

/// The idle share of the rank that works most, over the stretches from `from` on: simulate()'s bubble_of_makespan, measured.
inline double measured_bubble(std::vector<std::vector<stretch>> const& by_rank, std::size_t from) {
  double span = 0, busiest = 0;
  std::vector<double> busy(by_rank.size());
  for (std::size_t i = from; !by_rank.empty() && i < by_rank.front().size(); ++i) {
    double first = 1e300, last = 0;
    for (std::size_t r = 0; r < by_rank.size(); ++r) {
      auto const& s = by_rank[r][i];
      if (s.empty()) continue;
      first = std::min(first, s.first);
      last = std::max(last, s.last);
      busy[r] += s.busy;
    }
    if (last > first) span += last - first;
  }
  for (double const b : busy) busiest = std::max(busiest, b);
  return span > 0 ? 1 - busiest / span : 0;
}

}  // namespace trainer
