// SPDX-License-Identifier: Apache-2.0
// What is not a schedule is told what it lacks. With no case selected this file compiles: that build is the control.
//
// expect untagged: pipewright: a schedule says on purpose that it is one; let the type inherit pipewright::schedule_defaults
// expect nameless: pipewright: a schedule has a name; write static constexpr std::string_view name
// expect without_rules: pipewright: a schedule says what it does to weights and asks of a backward; write static constexpr weight_rule weights and static constexpr backward_form backward, or inherit both from schedule_defaults
// expect without_placement: pipewright: schedule lacks static constexpr int rank_of(shape, int stage); inherit schedule_defaults for the loop placement
// expect without_shapes: pipewright: schedule lacks static constexpr shape complete(shape) or static constexpr shape_fault check(shape); inherit schedule_defaults for any P and M with one chunk
// expect without_order: pipewright: schedule lacks static constexpr void order(shape, int rank, auto&& emit), which calls emit(action) for the rank's F, B, I and W in order
// expect interleaved_of_one: pipewright: interleaved<1> is not interleaved; choose flush, which is the same with one chunk a rank
// expect interleaved_of_less: pipewright: interleaved<V> needs V >= 2 chunks a rank
#include <pipewright/schedule/explain.hpp>
#include <pipewright/schedule/interleaved.hpp>

namespace pw = pipewright;

struct whole : pw::schedule_defaults {
  static constexpr std::string_view name = "whole";
  static constexpr void order(pw::shape, int, auto&&) {}
};
static_assert(pw::explain_schedule<whole>() && pw::explain_schedule<pw::interleaved<2>>());

struct untagged {
  static constexpr std::string_view name = "untagged";
  static constexpr void order(pw::shape, int, auto&&) {}
};
struct nameless : pw::schedule_defaults {
  static constexpr void order(pw::shape, int, auto&&) {}
};
struct without_rules {
  using policy_tag = pw::schedule_policy_tag;
  static constexpr std::string_view name = "rules";
};
struct without_placement : without_rules {
  static constexpr pw::weight_rule weights = pw::weight_rule::synchronous;
  static constexpr pw::backward_form backward = pw::backward_form::full;
};
struct without_shapes : without_placement {
  static constexpr int rank_of(pw::shape, int) { return 0; }
};
struct without_order : pw::schedule_defaults {
  static constexpr std::string_view name = "order";
};

int main() {
#if defined(PIPEWRIGHT_CASE_untagged)
  return pw::explain_schedule<untagged>();
#elif defined(PIPEWRIGHT_CASE_nameless)
  return pw::explain_schedule<nameless>();
#elif defined(PIPEWRIGHT_CASE_without_rules)
  return pw::explain_schedule<without_rules>();
#elif defined(PIPEWRIGHT_CASE_without_placement)
  return pw::explain_schedule<without_placement>();
#elif defined(PIPEWRIGHT_CASE_without_shapes)
  return pw::explain_schedule<without_shapes>();
#elif defined(PIPEWRIGHT_CASE_without_order)
  return pw::explain_schedule<without_order>();
#elif defined(PIPEWRIGHT_CASE_interleaved_of_one)
  return static_cast<int>(sizeof(pw::interleaved<1>));
#elif defined(PIPEWRIGHT_CASE_interleaved_of_less)
  return static_cast<int>(sizeof(pw::interleaved<-1>));
#endif
}
