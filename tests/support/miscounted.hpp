// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <tuple>

#include <support/program_set.hpp>

namespace support {

/// What can be judged by counting alone: every action that training needs stands once, on the rank of its stage, under
/// its one name. Empty if so, else what is wrong.
inline std::string miscounted(program_set const& p) {
  using pipewright::kind;
  if (p.programs.size() != static_cast<std::size_t>(p.ranks()) || p.stages() != p.facts.stages())
    return "the tables do not fit the shape";
  auto rank_of = [&](int s) { return p.rank_of_stage[static_cast<std::size_t>(s)]; };
  auto is_first_of_its_rank = [&](int s) {
    for (int before = 0; before < s; ++before)
      if (rank_of(before) == rank_of(s)) return false;
    return true;
  };
  std::map<std::tuple<kind, int, int>, int> count;
  for (int r = 0; r < p.ranks(); ++r)
    for (auto const i : p.programs[static_cast<std::size_t>(r)]) {
      auto const [what, overlapped, stage, m] = i.what;
      auto const text = write_instruction(i) + " on rank " + std::to_string(r) + ": ";
      if (what >= kind::unshard) return text + "no such action in a program";
      if (stage >= p.stages()) return text + "no such stage";
      if (m < 0 || m >= p.micro_batches()) return text + "no such micro-batch";
      bool const names_another_rank =
          what == kind::post_facts || what == kind::wait_facts || what == kind::send_verdict;
      if (!names_another_rank && rank_of(stage) != r) return text + "the stage stands elsewhere";
      if (what >= kind::send_tied && (m + 1) % p.interval() != 0)
        return text + "a step's end is named by its last micro-batch";
      if (what >= kind::send_facts && what <= kind::wait_verdict && !is_first_of_its_rank(stage))
        return text + "a rank's facts are named by its first stage";
      if (++count[{what, stage, what == kind::update ? i.version : m}] > 1) return text + "done twice";
    }
  auto done = [&](kind k, int s, int m) { return count.contains({k, s, m}); };
  for (int s = 0; s < p.stages(); ++s) {
    for (int m = 0; m < p.micro_batches(); ++m) {
      bool const whole = done(kind::backward, s, m), i = done(kind::backward_input, s, m),
                 w = done(kind::backward_weight, s, m);
      bool const right = !p.trains() ? !whole && !i && !w : whole ? !i && !w : i && w;
      if (!done(kind::forward, s, m) || !right || done(kind::recompute, s, m) != p.runs_again(m))
        return "stage " + std::to_string(s) + " micro-batch " + std::to_string(m) + ": actions are missing or too many";
    }
    for (int v = 1; v <= p.updates(); ++v)
      if (!done(kind::update, s, v))
        return "stage " + std::to_string(s) + ": update " + std::to_string(v) + " is missing";
  }
  return {};
}

}  // namespace support
