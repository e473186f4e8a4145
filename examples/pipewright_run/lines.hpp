// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.hpp"

namespace runner {

/// Where lines go: pipewright-run's own standard output or error. Written to only as much as it takes without blocking,
/// so that signals and deadlines are met whoever reads it.
class sink {
  static constexpr std::size_t capacity = 1 << 20;

  int fd_;
  std::size_t at_once_;
  std::string queue_;
  std::size_t sent_ = 0;
  void const* unfinished_ = nullptr;  ///< whose line was written without its end
  int error_ = 0;

 public:
  explicit sink(int fd) : fd_(fd) {
    struct stat status{};
    // A pipe or a terminal that says it is ready takes a page without blocking. A file always says so, and takes all.
    at_once_ = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? capacity : 4096;
  }

  int fd() const { return fd_; }
  bool is_empty() const { return queue_.empty(); }
  bool is_full() const { return queue_.size() - sent_ >= capacity; }
  int error() const { return error_; }  ///< errno of the write that failed; nothing is written any more

  /// A text of `whose`, which goes on where its last one left off and shares no line with another's.
  void add(void const* whose, std::string_view text) {
    if (text.empty() || error_ != 0) return;
    if (unfinished_ != nullptr && unfinished_ != whose) queue_ += '\n';
    queue_ += text;
    unfinished_ = text.back() == '\n' ? nullptr : whose;
  }

  bool ends_in_a_line() const { return unfinished_ != nullptr; }
  void forget_line() { unfinished_ = nullptr; }

  void write_some() {
    auto const count = ::write(fd_, queue_.data() + sent_, std::min(at_once_, queue_.size() - sent_));
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count < 0) {
      error_ = errno;
      queue_.clear();
      sent_ = 0;
      return;
    }
    sent_ += static_cast<std::size_t>(count);
    if (sent_ == queue_.size()) {
      queue_.clear();
      sent_ = 0;
    } else if (sent_ >= capacity) {
      queue_.erase(0, std::exchange(sent_, 0));
    }
  }
};

/// What one rank writes to its standard output or error.
class stream {
  static constexpr std::size_t longest_line = 1 << 20;

  descriptor fd_;
  sink* to_;
  std::string tag_;
  std::string line_;  ///< its beginning

 public:
  stream(descriptor fd, sink& to, std::string tag) : fd_(std::move(fd)), to_(&to), tag_(std::move(tag)) {}

  int fd() const { return fd_.get(); }
  bool is_open() const { return static_cast<bool>(fd_); }
  bool can_read() const { return is_open() && !to_->is_full(); }
  bool goes_nowhere() const { return to_->error() != 0; }
  /// The writer then gets SIGPIPE, as if it wrote there itself.
  void close() { fd_.reset(); }

  void read_some() {
    char buffer[1 << 16];
    auto const count = ::read(fd_.get(), buffer, sizeof buffer);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count <= 0) {
      forward(std::exchange(line_, {}));
      fd_.reset();
      return;
    }
    auto const begin = line_.size();
    line_.append(buffer, static_cast<std::size_t>(count));
    auto end = std::string_view(line_).substr(begin).rfind('\n');
    if (end != std::string_view::npos) end += begin + 1;
    else if (line_.size() >= longest_line) end = line_.size();
    else return;
    forward(std::string_view(line_).substr(0, end));
    line_.erase(0, end);
  }

 private:
  void forward(std::string_view text) {
    if (tag_.empty()) return to_->add(this, text);
    while (!text.empty()) {
      auto const end = std::min(text.find('\n'), text.size() - 1) + 1;
      to_->add(this, tag_ + std::string(text.substr(0, end)));
      text.remove_prefix(end);
    }
  }
};

}  // namespace runner
