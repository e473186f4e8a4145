// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <string_view>

#include <pipewright/schedule/policy.hpp>

namespace pipewright::inline v0 {

/// Says in a sentence, at compile time, what a type lacks to be a schedule: the first lack only, so that one fault is one
/// error. True where it lacks nothing.
template<class P> consteval bool explain_schedule() {
  if constexpr (!requires { requires std::same_as<typename P::policy_tag, schedule_policy_tag>; })
    static_assert(schedule_policy<P>,
                  "pipewright: a schedule says on purpose that it is one; let the type inherit "
                  "pipewright::schedule_defaults");
  else if constexpr (!requires {
                       { P::name } -> std::convertible_to<std::string_view>;
                     })
    static_assert(schedule_policy<P>,
                  "pipewright: a schedule has a name; write static constexpr std::string_view name = "
                  "\"...\" as the command line should spell it");
  else if constexpr (!requires {
                       { P::weights } -> std::convertible_to<weight_rule>;
                       { P::backward } -> std::convertible_to<backward_form>;
                     })
    static_assert(schedule_policy<P>,
                  "pipewright: a schedule says what it does to weights and asks of a backward; write "
                  "static constexpr weight_rule weights and static constexpr backward_form backward, or "
                  "inherit both from schedule_defaults");
  else if constexpr (!requires(shape s, int i) {
                       { P::rank_of(s, i) } -> std::same_as<int>;
                     })
    static_assert(schedule_policy<P>,
                  "pipewright: schedule lacks static constexpr int rank_of(shape, int stage); inherit "
                  "schedule_defaults for the loop placement");
  else if constexpr (!requires(shape s) {
                       { P::complete(s) } -> std::same_as<shape>;
                       { P::check(s) } -> std::same_as<shape_fault>;
                     })
    static_assert(schedule_policy<P>,
                  "pipewright: schedule lacks static constexpr shape complete(shape) or static constexpr "
                  "shape_fault check(shape); inherit schedule_defaults for any P and M with one chunk");
  else if constexpr (!requires(shape s, int i, void (*emit)(action)) { P::order(s, i, emit); })
    static_assert(schedule_policy<P>,
                  "pipewright: schedule lacks static constexpr void order(shape, int rank, auto&& emit), "
                  "which calls emit(action) for the rank's F, B, I and W in order");
  return schedule_policy<P>;
}

}  // namespace pipewright::inline v0
