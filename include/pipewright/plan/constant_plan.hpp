// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/plan/plan.hpp>

namespace pipewright::inline v0 {

/// Carries an illegal constant shape into the compiler's message: the rule and the nearest legal shape.
template<shape_rule Broken, int NearestRanks, int NearestMicroBatches, int NearestChunks, int NearestGroup>
struct SHAPE_IS_ILLEGAL {
  static_assert(Broken != shape_rule::at_least_one, "pipewright: ranks, micro-batches and batches are at least 1, chunks and group not negative; the arguments of SHAPE_IS_ILLEGAL are the nearest legal shape");
  static_assert(Broken != shape_rule::too_large, "pipewright: a plan holds at most 65535 stages and 67108864 micro-batches; the arguments of SHAPE_IS_ILLEGAL are the nearest legal shape");
  static_assert(Broken != shape_rule::one_chunk, "pipewright: this schedule holds one chunk a rank; for more choose interleaved");
  static_assert(Broken != shape_rule::chunks_of_the_type, "pipewright: interleaved<V> holds V chunks a rank: leave shape.chunks out or set it to V");
  static_assert(Broken != shape_rule::two_chunks_or_more, "pipewright: interleaved needs 2 or more chunks a rank; with one chunk choose flush");
  static_assert(Broken != shape_rule::group_fits, "pipewright: interleaved needs a micro-batch group G >= P with M mod G = 0 or M mod G >= P, and G = M where M < P; the arguments of SHAPE_IS_ILLEGAL are the nearest legal shape");
  static_assert(Broken != shape_rule::micro_batches_fill_the_pipeline, "pipewright: 2bw needs at least P - 1 micro-batches a batch, or a forward would need weights that do not exist yet; the arguments of SHAPE_IS_ILLEGAL are the nearest legal shape");
  static_assert(Broken != shape_rule::batches_only_in_a_stream, "pipewright: a synchronous plan holds one batch; only asynchronous schedules have several");
  static constexpr bool ok = Broken == shape_rule::none;
};

/// Carries a broken constant schedule into the compiler's message: rule, rank, position and action.
template<rule Broken, int Rank, int Position, kind What, int Stage, int MicroBatch> struct SCHEDULE_IS_MALFORMED {
  static_assert(Broken == rule::none,
                "pipewright: this schedule is broken; the arguments of SCHEDULE_IS_MALFORMED say which rule, rank, position and action");
  static constexpr bool ok = Broken == rule::none;
};

/// The plan of a schedule for a constant shape, made and proven by the compiler. An illegal shape or a broken schedule does
/// not compile. Each law is an evaluation of its own, since compilers bound the length of one; a shape too large for them
/// (some hundred thousand actions) goes to make_plan, the same at start-up.
template<schedule_policy P, shape S, needs Wants = needs{}> class constant_plan {
  static_assert(!detail::refuses<P>(Wants), "pipewright: weight stashing cannot exchange a global norm, a token count or tied gradients before every update without stopping the pipeline; clip per stage, copy the tied weight, or choose flush, 2bw or 1f1b-vsync");

  static constexpr shape facts_ = complete<P>(S);
  static constexpr shape_fault shape_found_ = check_shape<P>(facts_);
  static constexpr bool legal_ = SHAPE_IS_ILLEGAL<shape_found_.broken, shape_found_.nearest.ranks, shape_found_.nearest.micro_batches,
                                                  shape_found_.nearest.chunks, shape_found_.nearest.group>::ok;
  static_assert(detail::ties_fit(Wants, facts_.stages()), "pipewright: needs ties two stages of the plan, the earlier one first");
  static constexpr bool streams_ = is_stream(P::weights) && S.batches == 1;

  /// Instructions of the programs, those that a stream shows before it is folded.
  static constexpr std::size_t size() {
    if (!legal_) return 0;
    plan_view p{.schedule = P::name, .facts = facts_, .weights = P::weights, .backward = P::backward, .wants = Wants};
    if (streams_) p.facts.batches = detail::batches_to_show_the_period(p);
    block<int> const places = placement_of<P>(facts_);
    p.rank_of_stage = places.data();
    return detail::program_size(p);
  }

  struct frozen {
    verdict found = sound;
    plan_view facts{};
    fixed_rows<instruction, facts_.ranks, size()> programs{};
    int rank_of_stage[static_cast<std::size_t>(facts_.stages())]{};
    slot_depths slots[static_cast<std::size_t>(facts_.stages())]{};
    int weight_buffers[static_cast<std::size_t>(facts_.ranks)]{};
    period_marks period[static_cast<std::size_t>(facts_.ranks)]{};

    constexpr frozen() {
      if (!legal_) return;
      dynamic_plan plan;
      found = detail::build<P>(plan, facts_, Wants, streams_);
      if (!found.ok()) return;
      plan_view const p = plan.view();
      programs.assign(p.programs);
      for (int s = 0; s < p.stages(); ++s) {
        rank_of_stage[s] = p.rank_of_stage[s];
        slots[s] = p.slots[s];
      }
      for (int r = 0; r < p.facts.ranks; ++r) {
        weight_buffers[r] = p.weight_buffers[r];
        if (p.is_stream()) period[r] = p.period[r];
      }
      facts = p;
      facts.programs = {};
      facts.rank_of_stage = facts.weight_buffers = nullptr;
      facts.slots = nullptr;
      facts.period = nullptr;
    }
  };
  static constexpr frozen frozen_{};
  static constexpr verdict made_ = frozen_.found;
  static constexpr bool ordered_ = SCHEDULE_IS_MALFORMED<made_.broken, made_.rank, made_.position, made_.at.what, made_.at.stage, made_.at.micro_batch>::ok;

 public:
  static constexpr plan_view view() {
    plan_view result = frozen_.facts;
    result.programs = frozen_.programs.view();
    result.rank_of_stage = frozen_.rank_of_stage;
    result.slots = frozen_.slots;
    result.weight_buffers = frozen_.weight_buffers;
    result.period = streams_ ? frozen_.period : nullptr;
    return result;
  }
  constexpr operator plan_view() const { return view(); }

 private:
  static constexpr verdict found_ = streams_ ? verify_stream(view()) : verify(view());
  static constexpr bool proven_ = SCHEDULE_IS_MALFORMED<found_.broken, found_.rank, found_.position, found_.at.what, found_.at.stage, found_.at.micro_batch>::ok;
  static_assert(legal_ && ordered_ && proven_);
};

/// The plan of a schedule for a constant shape: `constexpr auto plan = pw::plan<pw::flush, pw::shape{.ranks = 4, .micro_batches = 8}>;`.
template<schedule_policy P, shape S, needs Wants = needs{}> inline constexpr constant_plan<P, S, Wants> plan{};

}  // namespace pipewright::inline v0
