// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/pipeline/observer.hpp>
#include <pipewright/trace/timeline.hpp>

namespace pipewright::inline v0 {

/// An observer that measures when one rank runs what. One for each rank, in that rank's thread; `measured_trace` joins
/// them. It allocates when it has seen more than `expected` actions.
class recorder {
 public:
  using clock = std::chrono::steady_clock;

  recorder() = default;
  explicit recorder(std::size_t expected) { seen_.reserve(expected); }

  void before(event const&) { begun_ = clock::now(); }
  void after(event const& e) { seen_.push_back({e.rank, e.instruction, begun_, clock::now()}); }

  void clear() { seen_.clear(); }

 private:
  struct moment {
    int rank;
    instruction ran;
    clock::time_point begin, end;
  };
  friend trace measured_trace(plan_view const&, std::span<recorder const>, std::string);

  clock::time_point begun_{};
  std::vector<moment> seen_;
};
static_assert(observer<recorder>);

/// What the ranks of one process recorded, as one trace in seconds from the first compute action on; transfers and waits
/// are left out where they took no time to speak of (below a microsecond).
inline trace measured_trace(plan_view const& p, std::span<recorder const> ranks, std::string title = {}) {
  trace t = detail::empty_trace(p);
  if (!title.empty()) t.title = std::move(title);
  t.unit = time_unit::seconds;
  auto first = recorder::clock::time_point::max();
  for (auto const& r : ranks)
    for (auto const& m : r.seen_)
      if (is_compute(m.ran.what.what)) first = std::min(first, m.begin);
  auto seconds = [&](recorder::clock::time_point x) { return std::chrono::duration<double>(x - first).count(); };
  for (auto const& r : ranks)
    for (auto const& m : r.seen_)
      if (is_compute(m.ran.what.what) || m.ran.what.what == kind::update || seconds(m.end) - seconds(m.begin) >= 1e-6)
        t.actions.push_back({m.rank, m.ran, seconds(m.begin), seconds(m.end)});
  return t;
}

}  // namespace pipewright::inline v0
