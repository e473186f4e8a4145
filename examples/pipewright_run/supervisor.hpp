// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pipewright/launch/place.hpp>
#include <pipewright/launch/torchrun_variables.hpp>

#include "fate.hpp"
#include "free_port.hpp"
#include "lines.hpp"
#include "processes.hpp"
#include "request.hpp"
#include "signals.hpp"
#include "terminal_input.hpp"

namespace runner {

/// Starts the ranks, hands on what they write and what pipewright-run is told, and sees that all of them end.
/// One thread, which waits in one place (poll) and nowhere else.
class supervisor {
  using clock = std::chrono::steady_clock;
  using time = clock::time_point;

  struct rank {
    pid_t pid = 0;  ///< also its process group
    std::optional<fate> ended = {};
    bool stopped = false;
    int sent = 0;              ///< what pipewright-run sent to end it: SIGTERM or SIGKILL
    bool was_stopped = false;  ///< when it was first sent one
  };

  /// What is done to end the run. Each lasts until `until_`, then comes the next.
  enum class phase { running, waiting_for_others, forwarded, terminating, killing };

  request const& request_;
  signals signals_;
  guardian guardian_;
  sink out_{1}, err_{2};
  sink* err_to_ = &err_;
  std::vector<rank> ranks_;
  std::deque<stream> streams_;
  terminal_input typed_;
  phase phase_ = phase::running;
  std::optional<time> until_, deadline_, all_ended_;
  bool over_deadline_ = false, gave_up_ = false, processes_changed_ = true;
  int forwarded_ = 0;
  int first_failed_ = -1;
  int left_behind_ = 0;

 public:
  explicit supervisor(request const& what) : request_(what) {
    struct stat out{}, err{};
    // 2>&1: one queue, or a line of the one could come into the middle of a line of the other.
    if (fstat(1, &out) == 0 && fstat(2, &err) == 0 && out.st_dev == err.st_dev && out.st_ino == err.st_ino)
      err_to_ = &out_;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
  }
  supervisor(supervisor&&) = delete;
  ~supervisor() {  // after an exception too
    for (auto const& one : ranks_) {
      kill(-one.pid, SIGKILL);
      while (waitpid(one.pid, nullptr, 0) < 0 && errno == EINTR) {}
    }
  }

  int run() {
    start_all();
    if (request_.deadline) deadline_ = in(*request_.deadline);
    while (true) {
      if (processes_changed_ || all_ended_) look_at_processes();
      take_next_step();
      if (is_finished()) break;
      wait();
    }
    return conclude();
  }

 private:
  static time in(double seconds) {
    return clock::now() + std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(seconds));
  }

  void start_all() {
    descriptor const null(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!null) fail("cannot open /dev/null");
    auto const port = free_port();
    auto const run_id = "pipewright-" + std::to_string(getpid()) + "-" +
                        std::to_string(std::chrono::system_clock::now().time_since_epoch().count());
    auto const threads = std::to_string(std::max(1, cores() / request_.ranks));
    for (int r = 0; r < request_.ranks; ++r) {
      pipewright::launch::place here;
      here.rank = here.local_rank.emplace(r);
      here.size = here.local_size.emplace(request_.ranks);
      here.address = "127.0.0.1";
      here.port = port;
      here.run_id = run_id;
      auto set = pipewright::launch::torchrun_variables(here);
      set.insert(set.end(), {{"TORCHELASTIC_RESTART_COUNT", "0"}, {"TORCHELASTIC_MAX_RESTARTS", "0"}});
      if (std::getenv("OMP_NUM_THREADS") == nullptr) set.emplace_back("OMP_NUM_THREADS", threads);
      // Of a process above this one: they would tell every rank that it is that one.
      std::vector<std::string> const unset{"PIPEWRIGHT_RANK",       "PIPEWRIGHT_SIZE",    "PIPEWRIGHT_LOCAL_RANK",
                                           "PIPEWRIGHT_LOCAL_SIZE", "PIPEWRIGHT_ADDRESS", "PIPEWRIGHT_PORT",
                                           "PIPEWRIGHT_RUN_ID"};
      channel out, err;
      std::optional<channel> typed;
      int in = r == 0 ? 0 : null.get();
      if (r == 0 && isatty(0)) in = typed.emplace().read.get();
      ranks_.push_back({start(request_.command, set, unset, in, out.write.get(), err.write.get(), signals_.before())});
      guardian_.add(ranks_.back().pid);
      auto const tag = request_.tag_output ? "[" + std::to_string(r) + "] " : "";
      streams_.emplace_back(std::move(out.read), out_, tag);
      streams_.emplace_back(std::move(err.read), *err_to_, tag);
      if (typed) typed_ = terminal_input(std::move(typed->write));
    }
  }

  static int cores() {
    cpu_set_t usable;
    return sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : 1;
  }

  bool all_ended() const {
    return std::all_of(ranks_.begin(), ranks_.end(), [](rank const& r) { return r.ended.has_value(); });
  }

  /// Ranks that have ended are not reaped yet: their ids, which name their groups, are not given to others.
  void look_at_processes() {
    processes_changed_ = false;
    int first = -1;
    for (int r = 0; r < request_.ranks; ++r) {
      auto& one = ranks_[r];
      if (one.ended) continue;
      siginfo_t info{};
      if (waitid(P_PID, one.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == one.pid) {
        one.ended = fate{info.si_code, info.si_status};
        if (r == 0) typed_.close();
        if (one.ended->is_failure() && (first < 0 || one.ended->weight() > ranks_[first].ended->weight())) first = r;
        continue;
      }
      info = {};
      if (waitid(P_PID, one.pid, &info, WSTOPPED | WCONTINUED | WNOHANG) == 0 && info.si_pid == one.pid)
        one.stopped = info.si_code != CLD_CONTINUED;
    }
    for (auto const stray : strays()) waitpid(stray, nullptr, WNOHANG);
    if (!all_ended_ && all_ended()) all_ended_ = clock::now();
    if (first < 0 || first_failed_ >= 0) return;
    first_failed_ = first;
    if (phase_ == phase::running) enter(phase::waiting_for_others, request_.grace);
  }

  /// What ranks have started and left.
  std::vector<pid_t> strays() const {
    auto found = children();
    std::erase_if(found, [&](pid_t pid) {
      return pid == guardian_.pid() ||
             std::any_of(ranks_.begin(), ranks_.end(), [&](rank const& r) { return r.pid == pid; });
    });
    return found;
  }

  void enter(phase next, double lasts) {
    phase_ = next;
    until_ = in(lasts);
  }

  static void send(rank const& to, int signal) {
    kill(-to.pid, signal);
    if (getpgid(to.pid) != to.pid) kill(to.pid, signal);  // it moved to another group
  }

  void end_ranks(int signal) {
    for (auto& one : ranks_) {
      if (one.ended) continue;
      if (one.sent == 0) one.was_stopped = one.stopped;
      one.sent = signal;
      send(one, signal);
      if (signal != SIGKILL) send(one, SIGCONT);  // a stopped one hears of it
    }
  }
  void terminate() {
    end_ranks(SIGTERM);
    enter(phase::terminating, request_.grace);
  }
  void kill_ranks() {
    end_ranks(SIGKILL);
    enter(phase::killing, 5);
  }

  void take_next_step() {
    auto const now = clock::now();
    if (deadline_ && now >= *deadline_ && !all_ended_) {
      deadline_.reset();
      if (first_failed_ < 0) {
        over_deadline_ = true;
        if (phase_ < phase::terminating) terminate();
      }
    }
    if (until_ && now >= *until_ && !all_ended_) {
      switch (phase_) {
        case phase::running: break;
        case phase::waiting_for_others: terminate(); break;
        case phase::forwarded:
        case phase::terminating: kill_ranks(); break;
        case phase::killing: gave_up_ = true; break;  // the system does not end it
      }
    }
    if (!all_ended_) return;
    // What they left may finish writing, say a tee; it does not outlive them by more than the grace.
    auto const since = std::chrono::duration<double>(now - *all_ended_).count();
    if (since >= request_.grace || phase_ == phase::killing) {
      auto const left = strays();
      if (left_behind_ == 0) left_behind_ = static_cast<int>(left.size());
      for (auto const pid : left) kill(pid, SIGKILL);
      for (auto const& one : ranks_) kill(-one.pid, SIGKILL);
    }
    if (since >= request_.grace + 2 || is_impatient(now))
      for (auto& one : streams_) one.close();  // held open by somebody who is not below us
  }

  /// Told to kill, and 2 s ago at that: nobody waits any longer, for a reader of our output say.
  bool is_impatient(time now) const { return phase_ == phase::killing && now >= *all_ended_ + std::chrono::seconds(2); }

  bool is_finished() const {
    if (gave_up_) return true;
    if (!all_ended_ || std::any_of(streams_.begin(), streams_.end(), [](stream const& s) { return s.is_open(); }))
      return false;
    return ((out_.is_empty() && err_.is_empty()) || is_impatient(clock::now())) && strays().empty();
  }

  void heard(int signal) {
    if (signal == SIGCHLD) {
      processes_changed_ = true;
      return;
    }
    if (signal == SIGUSR1 || signal == SIGUSR2) {
      for (auto const& one : ranks_)
        if (!one.ended) send(one, signal);
      return;
    }
    if (forwarded_ != 0) return kill_ranks();  // told twice
    forwarded_ = signal;
    for (auto const& one : ranks_)
      if (!one.ended) {
        send(one, signal);
        send(one, SIGCONT);
      }
    if (phase_ == phase::running) enter(phase::forwarded, request_.stop);
    if (phase_ == phase::waiting_for_others) enter(phase::terminating, request_.grace);
  }

  /// Milliseconds until something is due; -1: nothing is.
  int patience() const {
    auto next = std::optional<time>();
    auto consider = [&](std::optional<time> when) {
      if (when && (!next || *when < *next)) next = when;
    };
    if (all_ended_) consider(in(0.02));
    else {
      consider(until_);
      consider(deadline_);
      if (typed_.is_open()) consider(in(0.5));  // it may come to the foreground
    }
    if (!next) return -1;
    auto const left = std::ceil(std::chrono::duration<double, std::milli>(*next - clock::now()).count());
    return static_cast<int>(std::clamp(left, 0.0, 1e9));
  }

  void wait() {
    for (auto& one : streams_)
      if (one.is_open() && one.goes_nowhere()) one.close();
    std::vector<pollfd> ready{{signals_.fd(), POLLIN, 0},
                              {out_.is_empty() ? -1 : out_.fd(), POLLOUT, 0},
                              {err_.is_empty() ? -1 : err_.fd(), POLLOUT, 0},
                              typed_.is_open() ? typed_.wanted() : pollfd{-1, 0, 0}};
    for (auto const& one : streams_) ready.push_back({one.can_read() ? one.fd() : -1, POLLIN, 0});
    if (poll(ready.data(), ready.size(), patience()) <= 0) return;
    if (ready[0].revents != 0)
      while (auto const signal = signals_.next()) heard(*signal);
    if (ready[1].revents != 0) out_.write_some();
    if (ready[2].revents != 0) err_.write_some();
    if (ready[3].revents != 0 && typed_.is_open()) typed_.transfer();
    for (std::size_t i = 0; i < streams_.size(); ++i)
      if (ready[4 + i].revents != 0) streams_[i].read_some();
  }

  std::vector<int> ranks_where(auto condition) const {
    std::vector<int> found;
    for (int r = 0; r < request_.ranks; ++r)
      if (condition(ranks_[r])) found.push_back(r);
    return found;
  }

  /// What pipewright-run did to those that did not end by themselves, as the end of a sentence.
  std::string sent() const {
    std::string text;
    auto say = [&](std::vector<int> const& which, std::string const& what) {
      if (!which.empty()) text += "; " + names_of(which) + (which.size() == 1 ? " was " : " were ") + what;
    };
    for (bool const stopped : {false, true})
      for (int const signal : {SIGTERM, SIGKILL})
        say(ranks_where([&](rank const& r) { return r.sent == signal && r.was_stopped == stopped; }),
            std::string(stopped ? "stopped, and " : "") +
                (signal == SIGTERM ? "ended with SIGTERM" : "ended with SIGKILL"));
    say(ranks_where([](rank const& r) { return !r.ended; }), "not ended by SIGKILL either");
    return text;
  }

  /// Whether output was lost for another reason than that its reader went away.
  static bool is_lost(auto const&... sinks) { return ((sinks.error() != 0 && sinks.error() != EPIPE) || ...); }

  int conclude() {
    auto report = [&](std::string const& sentence) {
      if (err_to_->ends_in_a_line()) std::fputc('\n', stderr);
      err_to_->forget_line();
      std::fprintf(stderr, "pipewright-run: %s\n", sentence.c_str());
    };
    int code = 0;
    if (first_failed_ >= 0 && is_lost(out_, err_) && ranks_[first_failed_].ended->exit_code() == 128 + SIGPIPE)
      first_failed_ = -1;  // it could not write because we could not
    if (over_deadline_) {
      code = over_deadline;
      report("the deadline of " + seconds(*request_.deadline) + " was over" + sent());
    } else if (first_failed_ >= 0 || gave_up_) {
      std::string sentence;
      if (forwarded_ != 0)
        sentence = "handed on signal " + std::to_string(forwarded_) + " (" + strsignal(forwarded_) + "); ";
      if (first_failed_ >= 0) {
        code = ranks_[first_failed_].ended->exit_code();
        sentence += "rank " + std::to_string(first_failed_) + " " + ranks_[first_failed_].ended->text();
        auto const others = ranks_where([&](rank const& r) {
          return &r != &ranks_[first_failed_] && r.sent == 0 && r.ended && r.ended->is_failure();
        });
        if (!others.empty()) sentence += "; " + names_of(others) + " failed as well";
      }
      report(sentence + sent());
    }
    if (left_behind_ > 0)
      report("killed " + std::to_string(left_behind_) + (left_behind_ == 1 ? " process" : " processes") +
             " that the ranks left behind");
    for (auto const* const one : {&out_, &err_})
      if (is_lost(*one)) {
        report(std::string("cannot write the standard ") + (one == &out_ ? "output" : "error") + ": " +
               std::strerror(one->error()));
        if (code == 0) code = lost_output;
      }
    if (gave_up_) std::_Exit(code == 0 ? 1 : code);
    return code;
  }
};

}  // namespace runner
