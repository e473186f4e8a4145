// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/plan/plan.hpp>
#include <pipewright/schedule/explain.hpp>

namespace pipewright::inline v0 {

/// Carries an illegal constant shape into the compiler's message: the rule and the nearest legal shape.
template<shape_rule Broken, int NearestRanks, int NearestMicroBatches, int NearestChunks, int NearestGroup>
struct SHAPE_IS_ILLEGAL {
  static_assert(Broken != shape_rule::at_least_one,
                "pipewright: ranks, micro-batches and batches are at least 1, chunks and group not negative; the "
                "arguments of SHAPE_IS_ILLEGAL are the nearest legal shape");
  static_assert(Broken != shape_rule::too_large,
                "pipewright: a plan holds at most 65535 stages and 67108864 micro-batches; the arguments of "
                "SHAPE_IS_ILLEGAL are the nearest legal shape");
  static_assert(Broken != shape_rule::one_chunk,
                "pipewright: this schedule holds one chunk a rank; for more choose interleaved; the arguments of "
                "SHAPE_IS_ILLEGAL are the nearest legal shape");
  static_assert(
      Broken != shape_rule::chunks_of_the_type,
      "pipewright: interleaved<V> holds V chunks a rank: leave shape.chunks out or set it to V; the arguments of "
      "SHAPE_IS_ILLEGAL are the nearest legal shape");
  static_assert(Broken != shape_rule::two_chunks_or_more,
                "pipewright: interleaved needs 2 or more chunks a rank; with one chunk choose flush; the arguments of "
                "SHAPE_IS_ILLEGAL are the nearest legal shape");
  static_assert(Broken != shape_rule::group_fits,
                "pipewright: interleaved needs a micro-batch group G >= P with M mod G = 0 or M mod G >= P, and G = M "
                "where M < P; the arguments of SHAPE_IS_ILLEGAL are the nearest legal shape");
  static_assert(Broken != shape_rule::micro_batches_fill_the_pipeline,
                "pipewright: 2bw needs at least P - 1 micro-batches a batch, or a forward would need weights that do "
                "not exist yet; the arguments of SHAPE_IS_ILLEGAL are the nearest legal shape");
  static_assert(
      Broken != shape_rule::batches_only_in_a_stream,
      "pipewright: a synchronous plan holds one batch; only asynchronous schedules have several; the arguments of "
      "SHAPE_IS_ILLEGAL are the nearest legal shape, with batches 1");
};

/// Carries a broken constant schedule into the compiler's message: rule, rank, position and action.
template<rule Broken, int Rank, int Position, kind What, int Stage, int MicroBatch> struct SCHEDULE_IS_MALFORMED {
  static_assert(Broken == rule::none,
                "pipewright: this schedule is broken; the arguments of SCHEDULE_IS_MALFORMED say which rule, rank, "
                "position and action");
};

namespace detail {

/// The tables of a plan, made by the compiler. `S` is complete and legal.
template<schedule_policy P, shape S, needs Wants, bool AsStream> class constant_tables {
  /// Instructions of the programs, those that a stream shows before it is folded.
  static constexpr std::size_t size() {
    plan_view p = facts_of<P>(unfolded<P>(S, Wants, AsStream), Wants);
    block<int> const places = placement_of<P>(S);
    p.rank_of_stage = places.data();
    return program_size(p);
  }

  struct frozen {
    verdict found = sound;
    plan_view facts{};
    fixed_rows<instruction, S.ranks, size()> programs{};
    int rank_of_stage[static_cast<std::size_t>(S.stages())]{};
    slot_depths slots[static_cast<std::size_t>(S.stages())]{};
    int weight_buffers[static_cast<std::size_t>(S.ranks)]{};
    period_marks period[static_cast<std::size_t>(S.ranks)]{};

    constexpr frozen() {
      dynamic_plan plan;
      found = build<P>(plan, S, Wants, AsStream);
      if (!found.ok()) return;
      plan_view const p = plan.view();
      programs.assign(p.programs);
      for (int s = 0; s < p.stages(); ++s) {
        rank_of_stage[s] = p.rank_of_stage[s];
        slots[s] = p.slots[s];
      }
      for (int r = 0; r < p.facts.ranks; ++r) {
        weight_buffers[r] = p.weight_buffers[r];
        if (AsStream) period[r] = p.period[r];
      }
      facts = p;
      facts.programs = {};
      facts.rank_of_stage = facts.weight_buffers = nullptr;
      facts.slots = nullptr;
      facts.period = nullptr;
    }
  };
  static constexpr frozen kept{};

 public:
  static constexpr plan_view view() {
    plan_view result = kept.facts;
    result.programs = kept.programs.view();
    result.rank_of_stage = kept.rank_of_stage;
    result.slots = kept.slots;
    result.weight_buffers = kept.weight_buffers;
    result.period = AsStream ? kept.period : nullptr;
    return result;
  }

  /// What is wrong with the orders, then with the programs. Evaluations of their own, since compilers bound the length of one.
  static constexpr verdict made = kept.found;
  static constexpr verdict proven() { return AsStream ? verify_stream(view()) : verify(view()); }
};

}  // namespace detail

/// The plan of a schedule for a constant shape, made and proven by the compiler: what `plan` is.
template<class Tables> struct constant_plan {
  static constexpr plan_view view() { return Tables::view(); }
  constexpr operator plan_view() const { return view(); }
};

namespace detail {

/// Stands where a plan would stand after the compiler has said why there is none.
struct no_plan {
  static constexpr plan_view view() { return {}; }
  constexpr operator plan_view() const { return view(); }
};

/// Never called: compilers would evaluate all of it once more.
template<class P, shape S, needs Wants> constexpr auto proven_plan() {
  if constexpr (!explain_schedule<P>()) {
    return no_plan{};
  } else {
    constexpr shape facts = complete<P>(S);
    constexpr shape_fault unfit = check_shape<P>(facts);
    constexpr bool as_stream = is_stream(P::weights) && S.batches == 1;
    if constexpr (!unfit.ok()) {
      static_assert(sizeof(SHAPE_IS_ILLEGAL<unfit.broken, unfit.nearest.ranks, unfit.nearest.micro_batches,
                                            unfit.nearest.chunks, unfit.nearest.group>) > 0);
      return no_plan{};
    } else if constexpr (refuses<P>(Wants)) {
      static_assert(!refuses<P>(Wants),
                    "pipewright: weight stashing cannot exchange a global norm, a token count or tied gradients before "
                    "every update without stopping the pipeline; clip per stage, copy the tied weight, or choose "
                    "flush, 2bw or 1f1b-vsync");
      return no_plan{};
    } else if constexpr (!ties_fit(Wants, facts.stages())) {
      static_assert(ties_fit(Wants, facts.stages()),
                    "pipewright: needs ties two stages of the plan, the earlier one first");
      return no_plan{};
    } else {
      using tables = constant_tables<P, facts, Wants, as_stream>;
      constexpr verdict made = tables::made;
      if constexpr (!made.ok()) {
        static_assert(sizeof(SCHEDULE_IS_MALFORMED<made.broken, made.rank, made.position, made.at.what, made.at.stage,
                                                   made.at.micro_batch>) > 0);
        return no_plan{};
      } else {
        constexpr verdict found = tables::proven();
        if constexpr (!found.ok()) {
          static_assert(sizeof(SCHEDULE_IS_MALFORMED<found.broken, found.rank, found.position, found.at.what,
                                                     found.at.stage, found.at.micro_batch>) > 0);
          return no_plan{};
        } else {
          return constant_plan<tables>{};
        }
      }
    }
  }
}

}  // namespace detail

/// The plan of a schedule for a constant shape: `constexpr auto plan = pw::plan<pw::flush, pw::shape{.ranks = 4, .micro_batches = 8}>;`.
/// An illegal shape or a broken schedule does not compile. A shape too large for a compiler (some hundred thousand actions)
/// goes to make_plan, the same at start-up.
template<class P, shape S, needs Wants = needs{}> inline constexpr decltype(detail::proven_plan<P, S, Wants>()) plan{};

}  // namespace pipewright::inline v0
