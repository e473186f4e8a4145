// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <optional>

#include <sys/signalfd.h>
#include <unistd.h>

#include "descriptor.hpp"
#include "processes.hpp"

namespace runner {

/// Signals to pipewright-run, as something that poll() can wait for.
class signals {
  signal_state before_{};
  descriptor fd_;

 public:
  signals() {
    struct sigaction usual{}, ignored{}, old{};
    usual.sa_handler = SIG_DFL;
    ignored.sa_handler = SIG_IGN;
    sigaction(SIGCHLD, &usual, &before_.child);   // where it is ignored nobody learns how a process ended
    sigaction(SIGPIPE, &ignored, &before_.pipe);  // a write says so too
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    for (int const one : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) {
      sigaction(one, nullptr, &old);
      if (old.sa_handler != SIG_IGN) sigaddset(&wanted, one);  // nohup, and jobs in the background of a script
    }
    sigprocmask(SIG_BLOCK, &wanted, &before_.mask);
    fd_ = descriptor(signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd_) fail("cannot wait for signals");
  }

  int fd() const { return fd_.get(); }
  signal_state const& before() const { return before_; }

  std::optional<int> next() const {
    signalfd_siginfo info{};
    if (read(fd_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
    return static_cast<int>(info.ssi_signo);
  }
};

}  // namespace runner
