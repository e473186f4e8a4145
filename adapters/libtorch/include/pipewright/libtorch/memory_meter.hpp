// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <c10/core/Allocator.h>
#include <c10/core/Device.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <pipewright/profile/memory_meter.hpp>

namespace pipewright::inline v0::libtorch {

/// Sees what torch allocates in this thread, on any device, as torch's own profiler does, in whose place it stands while it
/// lives: profile_layers<libtorch::memory_meter>(...) knows what the graphs of stages hold.
class memory_meter {
 public:
  std::int64_t held() const { return counted_->held; }
  std::int64_t most() const { return counted_->most; }
  void restart() { counted_->most = counted_->held; }

 private:
  struct counter final : c10::MemoryReportingInfoBase {
    std::int64_t held = 0, most = 0;

    void reportMemoryUsage(void*, std::int64_t bytes, std::size_t, std::size_t, c10::Device) override {
      held += bytes;  // a negative number where memory is freed
      most = std::max(most, held);
    }
    bool memoryProfilingEnabled() const override { return true; }
  };

  std::shared_ptr<counter> counted_ = std::make_shared<counter>();
  c10::DebugInfoGuard guard_{c10::DebugInfoKind::PROFILER_STATE, counted_};
};
static_assert(pipewright::memory_meter<memory_meter>);

}  // namespace pipewright::inline v0::libtorch
