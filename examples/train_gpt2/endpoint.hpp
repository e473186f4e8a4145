// SPDX-License-Identifier: Apache-2.0
// A rank's end of everything, whichever transport it is of: a training is compiled once for all of them.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/pipeline/observer.hpp>
#include <pipewright/trace/timeline.hpp>
#include <pipewright/transport/transport.hpp>

#include "request.hpp"

namespace trainer {

/// Measures a rank's actions where they run on a device of their own.
class device_watch {
 public:
  virtual ~device_watch() = default;
  virtual void before(pw::event const& e) = 0;
  virtual void after(pw::event const& e) = 0;
  /// What was measured since the last call. Waits for the device.
  virtual std::vector<pw::timed_action> take() = 0;
};

/// A transport whose own type is forgotten; costs an indirect call for each of its functions.
class endpoint {
 public:
  endpoint() = default;
  endpoint(endpoint const&) = delete;
  endpoint& operator=(endpoint const&) = delete;
  virtual ~endpoint() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int open(pw::channel_key key) = 0;
  virtual pw::ticket post(int channel, pw::message slot) = 0;
  virtual pw::ticket send(int channel, pw::message slot) = 0;
  virtual bool poll(pw::ticket of) = 0;
  virtual void wait(pw::ticket of) = 0;
  virtual void progress() = 0;
  virtual void locate(std::function<std::string()> where) = 0;
  virtual void agree(std::string_view digest) = 0;
  virtual void abort(std::string_view why) noexcept = 0;
  /// Whether a launcher has asked this process to end.
  virtual bool is_told_to_end() const = 0;
  /// Where not null, its times are those of the rank's actions, and not the host's.
  virtual device_watch* watch() const { return nullptr; }
  /// Runs a step; where a device can have it as one piece of work, and nobody asks for its actions' times, so.
  virtual void run_step(std::function<void()> const& step, [[maybe_unused]] bool is_watched) { step(); }
};
static_assert(pw::transport<endpoint>);

/// One that passes everything on to another, which outlives it.
template<pw::transport T> class endpoint_of : public endpoint {
 public:
  explicit endpoint_of(T& here, std::atomic<bool> const* told_to_end = nullptr) : here_{here}, told_{told_to_end} {}

  int rank() const override { return here_.rank(); }
  int size() const override { return here_.size(); }
  int open(pw::channel_key key) override { return here_.open(key); }
  pw::ticket post(int channel, pw::message slot) override { return here_.post(channel, slot); }
  pw::ticket send(int channel, pw::message slot) override { return here_.send(channel, slot); }
  bool poll(pw::ticket of) override { return here_.poll(of); }
  void wait(pw::ticket of) override { here_.wait(of); }
  void progress() override { here_.progress(); }
  void locate(std::function<std::string()> where) override {
    if constexpr (requires { here_.locate(std::move(where)); }) here_.locate(std::move(where));
  }
  void agree(std::string_view digest) override { here_.agree(digest); }
  void abort(std::string_view why) noexcept override { here_.abort(why); }
  bool is_told_to_end() const override { return told_ != nullptr && *told_; }

 private:
  T& here_;
  std::atomic<bool> const* told_;
};

}  // namespace trainer
