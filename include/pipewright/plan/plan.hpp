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
#include <pipewright/schedule/named.hpp>
#include <pipewright/schedule/notation.hpp>

namespace pipewright::inline v0 {

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

  /// Steps 1 to 3: order, lower, slots. `s` is complete and legal, batches included. The verdict speaks of the orders; where
  /// it is not ok, the plan has no programs.
  template<schedule_policy P> static constexpr verdict make(dynamic_plan& plan, shape s, needs wants) {
    if (P::backward == backward_form::none) wants = {};
    plan.facts_ = {.schedule = P::name, .facts = s, .weights = P::weights, .backward = P::backward, .wants = wants};
    plan.rank_of_stage_ = placement_of<P>(s);
    rows<action> const orders = orders_of<P>(s);
    if (verdict const v = check_complete(orders.view(), s, plan.rank_of_stage_.data(), P::backward); !v.ok()) return v;
    meeting met = meet(orders.view(), s, plan.rank_of_stage_.data(), P::backward);
    if (!met.found.ok()) return met.found;
    plan.weight_buffers_ = block<int>(static_cast<std::size_t>(s.ranks));
    for (int r = 0; r < s.ranks; ++r) plan.weight_buffers_[static_cast<std::size_t>(r)] = version_bound(P::weights, s, r);
    plan.programs_ = lower(orders.view(), static_cast<meeting&&>(met), plan.view());
    plan.slots_ = plan_slots(plan.view());
    return sound;
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
    std::string t = "ranks " + std::to_string(x.ranks) + ", micro-batches " + std::to_string(x.micro_batches) + ", chunks " + std::to_string(x.chunks);
    if (grouped) t += ", group " + std::to_string(x.group);
    if (batched) t += ", batches " + std::to_string(x.batches);
    return t;
  };
  bool const grouped = s.group != 0 || fault.nearest.group != 0, batched = s.batches != 1 || fault.nearest.batches != 1;
  return "pipewright: " + std::string(schedule) + " does not run with " + text(s, grouped, batched) + ": " + sentence(fault.broken) +
      "; the nearest legal shape is " + text(fault.nearest, grouped, batched);
}

/// A verdict in one sentence: rule, rank, position, action.
inline std::string describe(std::string_view schedule, verdict const& v) {
  if (v.ok()) return std::string(schedule) + ": " + sentence(v.broken);
  return "pipewright: schedule " + std::string(schedule) + " is broken: " + sentence(v.broken) + "; rank " + std::to_string(v.rank) +
      ", position " + std::to_string(v.position) + ", action " + std::string(action_text(v.at).view());
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
    "pipewright: weight stashing cannot exchange a global norm, a token count or tied gradients before every update without "
    "stopping the pipeline; clip per stage, copy the tied weight, or choose flush, 2bw or 1f1b-vsync";

/// A tie names two stages of the plan, the earlier one first (or one stage, that holds both parameters).
constexpr bool ties_fit(needs wants, int stages) {
  return !wants.tied() || (wants.tied_first <= wants.tied_second && wants.tied_second < stages);
}

template<schedule_policy P> constexpr verdict build(dynamic_plan& plan, shape s, needs wants, bool as_stream) {
  if (as_stream) {
    plan_view const unfolded{.schedule = P::name, .facts = s, .weights = P::weights, .backward = P::backward, .wants = wants};
    s.batches = batches_to_show_the_period(unfolded);
  }
  verdict const v = dynamic_plan::make<P>(plan, s, wants);
  if (v.ok() && as_stream) plan.fold();
  return v;
}

template<schedule_policy P> dynamic_plan make(shape s, needs wants, bool as_stream) {
  if (refuses<P>(wants)) throw error(stashing_refuses);
  s = legal_shape<P>(s);
  if (!ties_fit(wants, s.stages()))
    throw error("pipewright: needs ties stages " + std::to_string(wants.tied_first) + " and " + std::to_string(wants.tied_second) +
                ", but the plan has stages 0 to " + std::to_string(s.stages() - 1) + "; name two of them, the earlier one first");
  dynamic_plan plan;
  verdict v = build<P>(plan, s, wants, as_stream);
  if (v.ok()) v = as_stream ? verify_stream(plan.view()) : verify(plan.view());
  if (!v.ok()) throw error(describe(P::name, v));
  return plan;
}

}  // namespace detail

/// The proven plan of a schedule for a shape known at start-up; asynchronous schedules give a stream. Throws
/// pipewright::error: the broken shape rule with the nearest legal shape, or the first fault with its place. Linear.
template<schedule_policy P> dynamic_plan make_plan(shape s, needs wants = {}) {
  return detail::make<P>(s, wants, is_stream(P::weights));
}

/// The same as a plan that ends: an asynchronous schedule admits shape.batches batches and drains.
template<schedule_policy P> dynamic_plan make_unrolled_plan(shape s, needs wants = {}) { return detail::make<P>(s, wants, false); }

namespace detail {
inline dynamic_plan make_by_name(std::string_view name, auto&& make) {
  dynamic_plan plan;
  if (visit_schedule(name, [&](auto policy) { plan = make(policy); })) return plan;
  std::string known;
  for_each_schedule(all_schedules{}, [&](auto policy) { known += (known.empty() ? "" : ", ") + std::string(decltype(policy)::type::name); });
  throw error("pipewright: there is no schedule named " + std::string(name) + "; choose one of " + known);
}
}  // namespace detail

/// The same for a schedule named at start-up: `make_plan("flush", {.ranks = 4, .micro_batches = 8})`.
inline dynamic_plan make_plan(std::string_view name, shape s, needs wants = {}) {
  return detail::make_by_name(name, [&](auto policy) { return make_plan<typename decltype(policy)::type>(s, wants); });
}
inline dynamic_plan make_unrolled_plan(std::string_view name, shape s, needs wants = {}) {
  return detail::make_by_name(name, [&](auto policy) { return make_unrolled_plan<typename decltype(policy)::type>(s, wants); });
}

}  // namespace pipewright::inline v0
