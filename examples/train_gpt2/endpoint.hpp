// SPDX-License-Identifier: Apache-2.0
// A rank's end of everything, whichever transport it is of: a training is compiled once for all of them.
#pragma once

#include <atomic>
#include <functional>
#include <vector>

#include <pipewright/pipeline/observer.hpp>
#include <pipewright/trace/timeline.hpp>
#include <pipewright/transport/any_transport.hpp>

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

/// What a training asks of a rank's end besides, whichever transport it is of.
class endpoint : public pw::any_transport {
 public:
  /// Whether a launcher has asked this process to end.
  virtual bool is_told_to_end() const = 0;
  /// Where not null, its times are those of the rank's actions, and not the host's.
  virtual device_watch* watch() const { return nullptr; }
  /// Runs a step; where a device can have it as one piece of work, and nobody asks for its actions' times, so.
  virtual void run_step(std::function<void()> const& step, [[maybe_unused]] bool is_watched) { step(); }
};

/// One that passes everything on to another, which outlives it.
template<pw::transport T> class endpoint_of : public pw::any_transport_of<T, endpoint> {
 public:
  explicit endpoint_of(T& here, std::atomic<bool> const* told_to_end = nullptr)
      : pw::any_transport_of<T, endpoint>(here), told_{told_to_end} {}
  bool is_told_to_end() const override { return told_ != nullptr && *told_; }

 private:
  std::atomic<bool> const* told_;
};

}  // namespace trainer
