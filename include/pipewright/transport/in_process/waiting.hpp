// SPDX-License-Identifier: Apache-2.0
#pragma once
// How a rank's thread waits: it spins while a core is free for it and the wait is short, and sleeps otherwise.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#include <sys/prctl.h>
#endif

namespace pipewright::inline v0::in_process::detail {

using clock = std::chrono::steady_clock;
inline constexpr clock::time_point never = clock::time_point::max();

inline clock::duration seconds(double s) {  // at most some thirty years
  return std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(std::min(s, 1e9)));
}

/// Cores that this process may run on.
inline int usable_cores() {
#if defined(__linux__)
  if (cpu_set_t set; sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

/// Timed sleeps of the calling thread end when they are due; Linux would add 50 us to gather wake-ups.
inline void sleep_precisely() {
#if defined(__linux__)
  prctl(PR_SET_TIMERSLACK, 1UL);
#endif
}

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// The ranks' threads that are not asleep in a wait, and the cores there are for them. Nobody spins when there are more
/// threads than cores: the spinner would hold the core that the awaited one needs.
class crowd {
 public:
  explicit crowd(int ranks) : awake_(ranks), cores_(usable_cores()) {}
  bool has_room() const { return awake_.load(std::memory_order_relaxed) <= cores_; }
  void joined() { awake_.fetch_add(1, std::memory_order_relaxed); }
  void left() { awake_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  std::atomic<int> awake_;
  int const cores_;
};

/// Where one thread sleeps until another wakes it.
class sleeper {
 public:
  explicit sleeper(crowd& others) : others_(others) {}

  /// Waits until done() or the limit and returns done(). Whoever makes done() true calls wake() after it.
  template<class Done> bool wait_until(clock::time_point limit, Done done) {
    if (waits_without_spin_ > 0) {
      --waits_without_spin_;
      return sleep_until(limit, done);
    }
    auto const end = std::min(limit, clock::now() + spin_time);
    bool const result = spin_until(end, done);
    if (result && clock::now() < end) {
      if (backoff_ > 0) --backoff_;
      return true;
    }
    waits_without_spin_ = backoff_ = std::min(2 * backoff_ + 1, 255);
    return result || sleep_until(limit, done);
  }

  /// Waits until the time given, to about a microsecond where a core is free, or until done(), and returns done().
  template<class Done> bool wait_for_time(clock::time_point due, Done done) {
    if (others_.has_room() && (sleep_until(due - spin_time, done) || spin_until(due, done))) return true;
    return sleep_until(due, done);
  }

  void wake() {
    {
      std::lock_guard lock(mutex_);
      if (!asleep_) return;
      count_in();  // on the sleeper's behalf: spinners make way for it at once
    }
    woken_.notify_one();
  }

 private:
  /// About what going to sleep and being woken costs on an idle machine; spinning longer never pays. After a spin in
  /// vain the next waits do without, the more the oftener: their waits are long, or the cores are busy with other
  /// programs.
  static constexpr auto spin_time = std::chrono::microseconds(50);

  template<class Done> bool spin_until(clock::time_point limit, Done& done) {
    for (int turn = 1; others_.has_room(); ++turn) {
      if (done()) return true;
      pause();
      if (turn % 16 != 0) continue;
      if (clock::now() >= limit) break;
      if (turn > 64) std::this_thread::yield();  // for a thread that woke up on this core
    }
    return done();
  }
  template<class Done> bool sleep_until(clock::time_point limit, Done& done) {
    std::unique_lock lock(mutex_);
    while (!done()) {
      if (clock::now() >= limit) return false;
      asleep_ = true;
      others_.left();
      if (limit == never) woken_.wait(lock);
      else woken_.wait_until(lock, limit);
      if (asleep_) count_in();
    }
    return true;
  }
  void count_in() {
    asleep_ = false;
    others_.joined();
  }

  crowd& others_;
  std::mutex mutex_;
  std::condition_variable woken_;
  bool asleep_ = false;
  int waits_without_spin_ = 0;  // to come
  int backoff_ = 0;             // how many there were after the last spin in vain
};

}  // namespace pipewright::inline v0::in_process::detail
