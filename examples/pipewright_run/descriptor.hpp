// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include <pipewright/error.hpp>

namespace runner {

/// Owns a file descriptor.
class descriptor {
  int fd_ = -1;

 public:
  descriptor() = default;
  explicit descriptor(int fd) : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~descriptor() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
};

[[noreturn]] inline void fail(std::string const& what, int code = errno) {
  throw pipewright::error(what + ": " + std::strerror(code));
}

/// Both ends, closed in whatever program is executed.
struct channel {
  descriptor read, write;

  channel() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) fail("cannot make a pipe (start fewer ranks, or raise ulimit -n)");
    read = descriptor(ends[0]);
    write = descriptor(ends[1]);
  }
};

}  // namespace runner
