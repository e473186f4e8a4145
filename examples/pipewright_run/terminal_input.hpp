// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "descriptor.hpp"

namespace runner {

/// Hands what is typed to rank 0, which is not in the terminal's foreground group and may not read from it itself.
class terminal_input {
  descriptor to_;
  std::string text_;

 public:
  terminal_input() = default;
  explicit terminal_input(descriptor to) : to_(std::move(to)) { fcntl(to_.get(), F_SETFL, O_NONBLOCK); }

  bool is_open() const { return static_cast<bool>(to_); }
  void close() { to_.reset(); }

  /// Nothing is read while pipewright-run is in the background: that would stop it.
  pollfd wanted() const {
    if (!text_.empty()) return {to_.get(), POLLOUT, 0};
    return {tcgetpgrp(0) == getpgrp() ? 0 : -1, POLLIN, 0};
  }

  void transfer() {
    if (text_.empty()) {
      char buffer[4096];
      auto const count = read(0, buffer, sizeof buffer);
      if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
      if (count <= 0) return close();
      text_.assign(buffer, static_cast<std::size_t>(count));
    }
    auto const count = write(to_.get(), text_.data(), text_.size());
    if (count >= 0) text_.erase(0, static_cast<std::size_t>(count));
    else if (errno != EINTR && errno != EAGAIN) close();
  }
};

}  // namespace runner
