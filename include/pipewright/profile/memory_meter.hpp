// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <map>
#include <vector>

#include <pipewright/pipeline/observer.hpp>
#include <pipewright/schedule/action.hpp>

namespace pipewright::inline v0 {

/// Sees what this thread allocates while it lives, for stages whose memory is not all in their saved values: a graph, a pool.
/// Needs: `held()`, the bytes that were allocated and not freed since it was made; `most()`, the most that was held since the
/// last `restart()`. One that counts only what actions need while they run (scratch that all stages of a thread share) says so
/// by `static constexpr bool sees_saved = false`. Not required: thread safety, knowing what was allocated before. Minimal
/// model: no allocator that is counted, no bytes.
template<class M>
concept memory_meter = std::default_initializable<M> && requires(M m) {
  { m.held() } -> std::same_as<std::int64_t>;
  { m.most() } -> std::same_as<std::int64_t>;
  m.restart();
};

/// Whether a meter counts what stages save, too.
template<class M> inline constexpr bool sees_saved = memory_meter<M>;
template<memory_meter M>
requires requires { M::sees_saved; } inline constexpr bool sees_saved<M> = M::sees_saved;

/// Stands for none.
struct no_meter {};

/// An observer that measures what each stage's actions allocate, on one rank, in the rank's thread.
template<memory_meter Meter> class stage_memory {
 public:
  /// Whether what runs now counts. Off at first, so that a warm-up can be left out.
  bool counts = false;

  void before(event const&) {
    meter_.restart();
    begun_ = meter_.held();
  }
  void after(event const& e) {
    if (!counts) return;
    auto const& [what, stage] = std::pair(e.instruction.what.what, e.instruction.what.stage);
    auto const now = meter_.held();
    auto& most = workspace_[stage];
    most = std::max(most, meter_.most() - std::max(begun_, now));
    if (what == kind::forward) kept_[stage].push_back(static_cast<double>(std::max<std::int64_t>(now - begun_, 0)));
  }
  /// Bytes that each forward of a stage has left behind, in order, once what it gave stands where that of the one before stood.
  std::vector<double> const& kept(int stage) { return kept_[stage]; }
  /// The most bytes that any action of a stage had beside what was held before it or after it, whichever is more.
  double workspace(int stage) { return static_cast<double>(workspace_[stage]); }

 private:
  Meter meter_;
  std::int64_t begun_ = 0;
  std::map<int, std::vector<double>> kept_;
  std::map<int, std::int64_t> workspace_;
};

}  // namespace pipewright::inline v0
