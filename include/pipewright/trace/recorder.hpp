// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <limits>
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

  /// What it has seen, in seconds of its clock, which the processes of one machine share. Transfers and waits are left out
  /// where they took no time to speak of (below a microsecond).
  std::vector<timed_action> actions() const {
    std::vector<timed_action> result;
    auto const seconds = [](clock::time_point x) {
      return std::chrono::duration<double>(x.time_since_epoch()).count();
    };
    for (auto const& m : seen_)
      if (is_compute(m.ran.what.what) || m.ran.what.what == kind::update ||
          m.end - m.begin >= std::chrono::microseconds(1))
        result.push_back({m.rank, m.ran, seconds(m.begin), seconds(m.end)});
    return result;
  }

 private:
  struct moment {
    int rank;
    instruction ran;
    clock::time_point begin, end;
  };

  clock::time_point begun_{};
  std::vector<moment> seen_;
};
static_assert(observer<recorder>);

/// What ranks recorded, one after the other, as one trace in seconds from the first compute action on.
inline trace measured_trace(plan_view const& p, std::vector<timed_action> actions, std::string title = {}) {
  trace t = detail::empty_trace(p);
  if (!title.empty()) t.title = std::move(title);
  t.unit = time_unit::seconds;
  double first = std::numeric_limits<double>::max();
  for (timed_action const& a : actions)
    if (is_compute(a.ran.what.what)) first = std::min(first, a.begin);
  for (timed_action& a : actions) {
    a.begin -= first;
    a.end -= first;
  }
  t.actions = std::move(actions);
  return t;
}

/// The same of the recorders of one process's ranks.
inline trace measured_trace(plan_view const& p, std::span<recorder const> ranks, std::string title = {}) {
  std::vector<timed_action> all;
  for (auto const& r : ranks)
    for (timed_action const& a : r.actions()) all.push_back(a);
  return measured_trace(p, std::move(all), std::move(title));
}

}  // namespace pipewright::inline v0
