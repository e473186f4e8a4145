// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <support/program_set.hpp>

#include <pipewright/plan/plan.hpp>

namespace support {

/// The library's plan of a schedule as open programs; a stream is drained after shape.batches batches.
template<class P> program_set programs_of(pipewright::shape s, pipewright::needs wants = {}) {
  return copy_of(pipewright::make_unrolled_plan<P>(s, wants).view());
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
