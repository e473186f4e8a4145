// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include <pipewright/error.hpp>
#include <pipewright/plan/lower.hpp>
#include <pipewright/plan/memory.hpp>
#include <pipewright/plan/simulate.hpp>
#include <pipewright/plan/stream.hpp>
#include <pipewright/plan/verify.hpp>
#include <pipewright/schedule/explain.hpp>
#include <pipewright/schedule/named.hpp>
#include <pipewright/schedule/notation.hpp>

namespace pipewright::inline v0 {

namespace detail {
/// What a plan of P says before it has programs. Evaluation neither exchanges facts nor recomputes.
template<schedule_policy P> constexpr plan_view facts_of(shape s, needs wants) {
  return {.schedule = P::name,
          .facts = s,
          .weights = P::weights,
          .backward = P::backward,
          .wants = P::backward == backward_form::none ? needs{} : wants};
}
}  // namespace detail

/// A plan that owns its tables: what a shape known only at start-up gives.
class dynamic_plan {
 public:
  constexpr plan_view view() const {
    plan_view result = facts_;
    result.programs = programs_.view();
    result.rank_of_stage = rank_of_stage_.data();
    result.slots = slots_.data();
    result.weight_buffers = weight_buffers_.data();
    result.period = periods_.data();
    return result;
  }
  constexpr operator plan_view() const { return view(); }

  /// Steps 2 and 3: lower, slots. `facts` says what the orders are of; its shape is complete and legal, batches included.
  /// The verdict speaks of the orders; where it is not ok, the plan has no programs.
  static constexpr verdict make(dynamic_plan& plan, plan_view const& facts, block<int> rank_of_stage,
                                rows_view<action> orders) {
    shape const s = facts.facts;
    plan.facts_ = facts;
    plan.rank_of_stage_ = static_cast<block<int>&&>(rank_of_stage);
    if (verdict const v = check_complete(orders, s, plan.rank_of_stage_.data(), facts.backward); !v.ok()) return v;
    meeting met = meet(orders, s, plan.rank_of_stage_.data(), facts.backward);
    if (!met.found.ok()) return met.found;
    plan.weight_buffers_ = block<int>(static_cast<std::size_t>(s.ranks));
    for (int r = 0; r < s.ranks; ++r)
      plan.weight_buffers_[static_cast<std::size_t>(r)] = version_bound(facts.weights, s, r);
    plan.programs_ = lower(orders, static_cast<meeting&&>(met), plan.view());
    plan.slots_ = plan_slots(plan.view());
    return sound;
  }

  /// The same from a policy, its orders and its placement. `s` is complete and legal.
  template<schedule_policy P> static constexpr verdict make(dynamic_plan& plan, shape s, needs wants) {
    return make(plan, detail::facts_of<P>(s, wants), placement_of<P>(s), orders_of<P>(s).view());
  }

  /// Cuts a finite program of batches_to_show_the_period batches down to prologue and period.
  constexpr void fold() {
    plan_view const p = view();
    facts_.period_micro_batches = detail::period_of(p);
    facts_.period_updates = facts_.period_micro_batches / p.update_interval();
    periods_ = find_periods(p);
    facts_.facts.batches = 1;
    plan_view folded = view();
    programs_ = detail::beginning(folded, 1);
  }

  constexpr shape facts() const { return facts_.facts; }

 private:
  plan_view facts_{};
  rows<instruction> programs_;
  block<int> rank_of_stage_;
  block<slot_depths> slots_;
  block<int> weight_buffers_;
  block<period_marks> periods_;
};

/// A shape and why it is not legal, in one sentence.
inline std::string describe(std::string_view schedule, shape s, shape_fault const& fault) {
  auto text = [](shape x, bool grouped, bool batched) {
    std::string t = "ranks " + std::to_string(x.ranks) + ", micro-batches " + std::to_string(x.micro_batches) +
                    ", chunks " + std::to_string(x.chunks);
    if (grouped) t += ", group " + std::to_string(x.group);
    if (batched) t += ", batches " + std::to_string(x.batches);
    return t;
  };
  bool const grouped = s.group != 0 || fault.nearest.group != 0, batched = s.batches != 1 || fault.nearest.batches != 1;
  return "pipewright: " + std::string(schedule) + " does not run with " + text(s, grouped, batched) + ": " +
         sentence(fault.broken) + "; the nearest legal shape is " + text(fault.nearest, grouped, batched);
}

/// A verdict in one sentence: rule, rank, position, action.
inline std::string describe(std::string_view schedule, verdict const& v) {
  if (v.ok()) return std::string(schedule) + ": " + sentence(v.broken);
  return "pipewright: schedule " + std::string(schedule) + " is broken: " + sentence(v.broken) + "; rank " +
         std::to_string(v.rank) + ", position " + std::to_string(v.position) + ", action " +
         std::string(action_text(v.at).view());
}

/// A shape completed by a policy. Throws pipewright::error where it is not legal: the rule and the nearest legal shape.
template<schedule_policy P> constexpr shape legal_shape(shape s) {
  s = complete<P>(s);
  if (shape_fault const fault = check_shape<P>(s); !fault.ok()) throw error(describe(P::name, s, fault));
  return s;
}

namespace detail {

/// A needs that no schedule can give is refused before anything is made.
template<schedule_policy P> constexpr bool refuses(needs wants) {
  return P::weights == weight_rule::stashing && (wants.step_facts || wants.tied());
}
inline constexpr char const* stashing_refuses =
    "pipewright: weight stashing cannot exchange a global norm, a token count or tied gradients before every update "
    "without "
    "stopping the pipeline; clip per stage, copy the tied weight, or choose flush, 2bw or 1f1b-vsync";

/// A tie names two stages of the plan, the earlier one first (or one stage, that holds both parameters).
constexpr bool ties_fit(needs wants, int stages) {
  return !wants.tied() || (wants.tied_first <= wants.tied_second && wants.tied_second < stages);
}

/// A shape's batches, or those that show a stream's period.
template<schedule_policy P> constexpr shape unfolded(shape s, needs wants, bool as_stream) {
  if (as_stream) s.batches = batches_to_show_the_period(facts_of<P>(s, wants));
  return s;
}

template<schedule_policy P> constexpr verdict build(dynamic_plan& plan, shape s, needs wants, bool as_stream) {
  verdict const v = dynamic_plan::make<P>(plan, unfolded<P>(s, wants, as_stream), wants);
  if (v.ok() && as_stream) plan.fold();
  return v;
}

inline std::string ties_do_not_fit(needs wants, int stages) {
  return "pipewright: needs ties stages " + std::to_string(wants.tied_first) + " and " +
         std::to_string(wants.tied_second) + ", but the plan has stages 0 to " + std::to_string(stages - 1) +
         "; name two of them, the earlier one first";
}

template<schedule_policy P> dynamic_plan make(shape s, needs wants, bool as_stream) {
  if (refuses<P>(wants)) throw error(stashing_refuses);
  s = legal_shape<P>(s);
  if (!ties_fit(wants, s.stages())) throw error(ties_do_not_fit(wants, s.stages()));
  dynamic_plan plan;
  verdict v = build<P>(plan, s, wants, as_stream);
  if (v.ok()) v = as_stream ? verify_stream(plan.view()) : verify(plan.view());
  if (!v.ok()) throw error(describe(P::name, v));
  return plan;
}

}  // namespace detail

/// The proven plan of a schedule for a shape known at start-up; asynchronous schedules give a stream. Throws
/// pipewright::error: the broken shape rule with the nearest legal shape, or the first fault with its place. Linear.
template<class P> dynamic_plan make_plan(shape s, needs wants = {}) {
  if constexpr (explain_schedule<P>()) return detail::make<P>(s, wants, is_stream(P::weights));
  else return {};
}

/// The same as a plan that ends: an asynchronous schedule admits shape.batches batches and drains.
template<class P> dynamic_plan make_unrolled_plan(shape s, needs wants = {}) {
  if constexpr (explain_schedule<P>()) return detail::make<P>(s, wants, false);
  else return {};
}

namespace detail {
template<class Schedules> dynamic_plan make_by_name(std::string_view name, auto&& make) {
  dynamic_plan plan;
  bool found = false;
  std::string known;
  for_each_schedule(Schedules{}, [&](auto policy) {
    std::string_view const its = decltype(policy)::type::name;
    known += (known.empty() ? "" : ", ") + std::string(its);
    if (its != name) return;
    found = true;
    plan = make(policy);
  });
  if (!found) throw error("pipewright: there is no schedule named " + std::string(name) + "; choose one of " + known);
  return plan;
}
}  // namespace detail

/// The same for a schedule named at start-up: `make_plan("flush", {.ranks = 4, .micro_batches = 8})`. The names are those of
/// a schedule_list, the library's or one's own. (Templates, so that nobody compiles all schedules who names none.)
template<class Schedules = all_schedules> requires(!schedule_policy<Schedules>)
dynamic_plan make_plan(std::string_view name, shape s, needs wants = {}) {
  return detail::make_by_name<Schedules>(
      name, [&](auto policy) { return make_plan<typename decltype(policy)::type>(s, wants); });
}
template<class Schedules = all_schedules> requires(!schedule_policy<Schedules>)
dynamic_plan make_unrolled_plan(std::string_view name, shape s, needs wants = {}) {
  return detail::make_by_name<Schedules>(
      name, [&](auto policy) { return make_unrolled_plan<typename decltype(policy)::type>(s, wants); });
}

}  // namespace pipewright::inline v0
