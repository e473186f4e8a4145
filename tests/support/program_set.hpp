// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include <support/orders.hpp>

#include <pipewright/plan/plan_view.hpp>

namespace support {

/// All that a run depends on, owned and open to change: what a mutation changes and the brute force executes.
struct program_set {
  pipewright::shape facts;
  pipewright::weight_rule weights;
  pipewright::backward_form backward;
  pipewright::needs wants;
  std::vector<std::vector<pipewright::instruction>> programs;  ///< by rank
  std::vector<int> rank_of_stage;
  std::vector<pipewright::slot_depths> slots;  ///< by stage
  std::vector<int> weight_buffers;             ///< by rank
  int exchange_slots = 1;                      ///< updates whose exchange may be under way on a rank

  int ranks() const { return facts.ranks; }
  int stages() const { return static_cast<int>(rank_of_stage.size()); }
  int micro_batches() const { return facts.micro_batches * facts.batches; }
  /// Micro-batches from one update to the next.
  int interval() const {
    using pipewright::weight_rule;
    return weights == weight_rule::stashing || weights == weight_rule::vertical_sync ? 1 : facts.micro_batches;
  }
  bool trains() const { return backward != pipewright::backward_form::none; }
  int updates() const { return trains() ? micro_batches() / interval() : 0; }
  /// Whether a micro-batch's forward runs a second time.
  bool runs_again(int m) const {
    using pipewright::recompute_mode;
    bool const last_of_batch = m % facts.micro_batches == facts.micro_batches - 1;
    return trains() && (wants.recompute == recompute_mode::always ||
                        (wants.recompute == recompute_mode::except_last && !last_of_batch));
  }
};

inline program_set copy_of(pipewright::plan_view const& plan) {
  program_set result{plan.facts, plan.weights, plan.backward,
                     plan.wants, {},           {},
                     {},         {},           pipewright::exchange_window(plan.weights, plan.facts)};
  for (int r = 0; r < plan.facts.ranks; ++r) {
    auto const row = plan.programs[r];
    result.programs.emplace_back(row.begin(), row.end());
    result.weight_buffers.push_back(plan.weight_buffers[r]);
  }
  for (int s = 0; s < plan.stages(); ++s) {
    result.rank_of_stage.push_back(plan.rank_of_stage[s]);
    result.slots.push_back(plan.slots[s]);
  }
  return result;
}

/// An instruction as text, for messages: "2F0", "1POST_B3", "0UPDATE7 v8".
inline std::string write_instruction(pipewright::instruction i) {
  static constexpr char const* names[] = {"F",      "B",      "I",       "W",       "R",          "SEND_F", "RECV_F",
                                          "POST_F", "WAIT_F", "SEND_B",  "RECV_B",  "POST_B",     "WAIT_B", "SEND_T",
                                          "POST_T", "WAIT_T", "SEND_S",  "POST_S",  "WAIT_S",     "SEND_V", "POST_V",
                                          "WAIT_V", "UPDATE", "UNSHARD", "RESHARD", "REDUCE_GRAD"};
  auto text = std::to_string(i.what.stage) + names[static_cast<int>(i.what.what)] + std::to_string(i.what.micro_batch);
  if (pipewright::is_compute(i.what.what) || i.what.what == pipewright::kind::update)
    text += " v" + std::to_string(i.version);
  return text;
}

}  // namespace support
