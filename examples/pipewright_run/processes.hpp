// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "descriptor.hpp"
#include "request.hpp"

namespace runner {

/// The program cannot be run: nothing was.
struct cannot_execute : pipewright::error {
  exit_code code;
  cannot_execute(std::string const& program, int why)
      : error("cannot run '" + program + "': " + std::strerror(why)),
        code(why == ENOENT || why == ENOTDIR ? not_found : not_executable) {}
};

/// How signals stood before pipewright-run changed them; its ranks are started with them so.
struct signal_state {
  sigset_t mask;
  struct sigaction pipe, child;
};

/// Kills what the ranks have started if pipewright-run itself is killed: ranks then die by PR_SET_PDEATHSIG, but their
/// children do not. A process that does nothing else, in a session of its own, out of the way of signals to groups.
class guardian {
  pid_t pid_ = -1;
  descriptor tell_;

 public:
  guardian() {
    channel line;
    pid_ = fork();
    if (pid_ < 0) fail("cannot start a process");
    if (pid_ == 0) watch(line.read.get());
    tell_ = std::move(line.write);
  }
  guardian(guardian&&) = delete;
  ~guardian() {
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {}
  }

  pid_t pid() const { return pid_; }
  void add(pid_t group) {
    if (write(tell_.get(), &group, sizeof group) != sizeof group) fail("cannot reach the guardian process");
  }

 private:
  [[noreturn]] static void watch(int line) {
    setsid();
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    prctl(PR_SET_NAME, "pipewright-ward");
    if (dup2(line, 0) != 0) _exit(1);
    if (close_range(1, ~0U, 0) != 0)
      for (int fd = 1; fd < 65536; ++fd) close(fd);
    std::vector<pid_t> groups;
    pid_t group = 0;
    while (read(0, &group, sizeof group) == sizeof group) groups.push_back(group);
    for (auto const one : groups) kill(-one, SIGKILL);
    _exit(0);
  }
};

/// What stands in a rank's environment besides what it inherits.
using environment_changes = std::vector<std::pair<std::string, std::string>>;

/// Starts a program in a process group of its own that dies with this process. Returns when it is executed.
inline pid_t start(std::vector<std::string> const& command, environment_changes const& set,
                   std::vector<std::string> const& unset, int in, int out, int err, signal_state const& before) {
  channel status;
  auto const parent = getpid();
  std::fflush(nullptr);
  auto const pid = fork();
  if (pid < 0) fail("cannot start a process (start fewer ranks, or raise ulimit -u)");
  if (pid == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);  // it died before that
    std::vector<char*> arguments;
    for (auto const& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    int code = 0;
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) code = errno;
    for (auto const& name : unset) unsetenv(name.c_str());
    for (auto const& [name, value] : set) setenv(name.c_str(), value.c_str(), 1);
    if (code == 0) {
      sigaction(SIGPIPE, &before.pipe, nullptr);
      sigaction(SIGCHLD, &before.child, nullptr);
      sigprocmask(SIG_SETMASK, &before.mask, nullptr);
      execvp(arguments[0], arguments.data());
      code = errno;
    }
    [[maybe_unused]] auto const told = write(status.write.get(), &code, sizeof code);
    _exit(127);
  }
  setpgid(pid, pid);  // whichever of the two is first
  status.write.reset();
  int code = 0;
  ssize_t count = 0;
  do count = read(status.read.get(), &code, sizeof code);
  while (count < 0 && errno == EINTR);
  if (count == sizeof code) {
    waitpid(pid, nullptr, 0);
    throw cannot_execute(command.front(), code);
  }
  return pid;
}

/// Processes whose parent is this one. Those whose parent died are among them (PR_SET_CHILD_SUBREAPER).
inline std::vector<pid_t> children() {
  std::vector<pid_t> found;
  auto const path = "/proc/self/task/" + std::to_string(getpid()) + "/children";
  if (auto* const file = std::fopen(path.c_str(), "re")) {
    for (int pid = 0; std::fscanf(file, "%d", &pid) == 1;) found.push_back(pid);
    std::fclose(file);
  }
  return found;
}

}  // namespace runner
