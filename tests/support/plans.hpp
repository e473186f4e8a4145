// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <span>
#include <string>
#include <vector>

#include <support/any_policy.hpp>
#include <support/program_set.hpp>

#include <pipewright/plan/plan.hpp>

namespace support {

/// A schedule as a value, with the library's makers of its plans.
struct planned_policy : any_policy {
  pipewright::dynamic_plan (*plan)(pipewright::shape, pipewright::needs);           ///< a stream for those that stream
  pipewright::dynamic_plan (*unrolled_plan)(pipewright::shape, pipewright::needs);  ///< drained after shape.batches

  /// The library's plan as open programs; a stream is drained after shape.batches batches.
  program_set programs(pipewright::shape s, pipewright::needs wants = {}) const {
    return copy_of(unrolled_plan(s, wants).view());
  }
};

template<class P> constexpr planned_policy plans_of{policy_of<P>, pipewright::make_plan<P>,
                                                    pipewright::make_unrolled_plan<P>};

/// Every schedule of the library.
inline std::span<planned_policy const> library_policies() {
  static constexpr auto all = []<class... P>(pipewright::schedule_list<P...>) {
    return std::array{plans_of<P>...};
  }(pipewright::all_schedules{});
  return all;
}

/// Schedules of other kinds.
inline std::span<planned_policy const> other_policies() {
  static constexpr std::array all{plans_of<descending_gpipe>, plans_of<zero_bubble_h1>, plans_of<breadth_first_v>};
  return all;
}

/// Legality, restated from the papers and the rule of each system.
inline bool is_legal(std::string_view schedule, int p, int m, int v, int g = 0) {
  if (schedule == "forward-only") return true;
  if (schedule == "2bw") return v == 1 && m >= p - 1;
  if (schedule != "interleaved") return v == 1;
  if (v < 2) return false;
  if (g == 0) return true;  // the schedule's own choice
  if (m < p) return g == m;
  return g >= p && (m % g == 0 || m % g >= p);
}

inline std::string describe(pipewright::needs const& wants) {
  return "recompute " + std::to_string(static_cast<int>(wants.recompute)) + " facts " +
         std::to_string(wants.step_facts) + " tied " + std::to_string(wants.tied_first) + "," +
         std::to_string(wants.tied_second);
}

}  // namespace support
