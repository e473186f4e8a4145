// SPDX-License-Identifier: Apache-2.0
// Constant plans that are illegal or broken. With no case selected this file compiles: that build is the control.
//
// expect no_ranks: pipewright: ranks, micro-batches and batches are at least 1, chunks and group not negative; the arguments of SHAPE_IS_ILLEGAL are the nearest legal shape
// expect no_ranks: SHAPE_IS_ILLEGAL<pipewright::shape_rule::at_least_one, 1, 4, 1, 0>
// expect(nvcc) no_ranks: pipewright: ranks, micro-batches and batches are at least 1, chunks and group not negative; the arguments of SHAPE_IS_ILLEGAL are the nearest legal shape
// expect(nvcc) no_ranks: with Broken=pipewright::shape_rule::at_least_one, NearestRanks=1, NearestMicroBatches=4, NearestChunks=1, NearestGroup=0
// expect too_many_stages: pipewright: a plan holds at most 65535 stages and 67108864 micro-batches
// expect too_many_stages: SHAPE_IS_ILLEGAL<pipewright::shape_rule::too_large, 65535, 4, 1, 0>
// expect(nvcc) too_many_stages: pipewright: a plan holds at most 65535 stages and 67108864 micro-batches
// expect(nvcc) too_many_stages: with Broken=pipewright::shape_rule::too_large, NearestRanks=65535, NearestMicroBatches=4, NearestChunks=1, NearestGroup=0
// expect chunks_of_flush: pipewright: this schedule holds one chunk a rank; for more choose interleaved; the arguments of SHAPE_IS_ILLEGAL are the nearest legal shape
// expect chunks_of_flush: SHAPE_IS_ILLEGAL<pipewright::shape_rule::one_chunk, 2, 4, 1, 0>
// expect(nvcc) chunks_of_flush: with Broken=pipewright::shape_rule::one_chunk, NearestRanks=2, NearestMicroBatches=4, NearestChunks=1, NearestGroup=0
// expect chunks_of_the_type: pipewright: interleaved<V> holds V chunks a rank: leave shape.chunks out or set it to V; the arguments of SHAPE_IS_ILLEGAL are the nearest legal shape
// expect chunks_of_the_type: SHAPE_IS_ILLEGAL<pipewright::shape_rule::chunks_of_the_type, 2, 4, 2, 2>
// expect(nvcc) chunks_of_the_type: with Broken=pipewright::shape_rule::chunks_of_the_type, NearestRanks=2, NearestMicroBatches=4, NearestChunks=2, NearestGroup=2
// expect one_chunk: pipewright: interleaved needs 2 or more chunks a rank; with one chunk choose flush; the arguments of SHAPE_IS_ILLEGAL are the nearest legal shape
// expect one_chunk: SHAPE_IS_ILLEGAL<pipewright::shape_rule::two_chunks_or_more, 2, 4, 2, 2>
// expect(nvcc) one_chunk: with Broken=pipewright::shape_rule::two_chunks_or_more, NearestRanks=2, NearestMicroBatches=4, NearestChunks=2, NearestGroup=2
// expect group: pipewright: interleaved needs a micro-batch group G
// expect group: SHAPE_IS_ILLEGAL<pipewright::shape_rule::group_fits, 4, 8, 2, 8>
// expect(nvcc) group: pipewright: interleaved needs a micro-batch group G
// expect(nvcc) group: with Broken=pipewright::shape_rule::group_fits, NearestRanks=4, NearestMicroBatches=8, NearestChunks=2, NearestGroup=8
// expect few_micro_batches: pipewright: 2bw needs at least P - 1 micro-batches a batch, or a forward would need weights that do not exist yet
// expect few_micro_batches: SHAPE_IS_ILLEGAL<pipewright::shape_rule::micro_batches_fill_the_pipeline, 4, 3, 1, 0>
// expect(nvcc) few_micro_batches: pipewright: 2bw needs at least P - 1 micro-batches a batch, or a forward would need weights that do not exist yet
// expect(nvcc) few_micro_batches: with Broken=pipewright::shape_rule::micro_batches_fill_the_pipeline, NearestRanks=4, NearestMicroBatches=3, NearestChunks=1, NearestGroup=0
// expect batches: pipewright: a synchronous plan holds one batch; only asynchronous schedules have several; the arguments of SHAPE_IS_ILLEGAL are the nearest legal shape, with batches 1
// expect batches: SHAPE_IS_ILLEGAL<pipewright::shape_rule::batches_only_in_a_stream, 4, 2, 1, 0>
// expect(nvcc) batches: with Broken=pipewright::shape_rule::batches_only_in_a_stream, NearestRanks=4, NearestMicroBatches=2, NearestChunks=1, NearestGroup=0
// expect norm_under_stashing: pipewright: weight stashing cannot exchange a global norm, a token count or tied gradients before every update without stopping the pipeline; clip per stage, copy the tied weight, or choose flush, 2bw or 1f1b-vsync
// expect tie_of_no_stage: pipewright: needs ties two stages of the plan, the earlier one first
// expect backward_first: pipewright: this schedule is broken; the arguments of SCHEDULE_IS_MALFORMED say which rule, rank, position and action
// expect backward_first: SCHEDULE_IS_MALFORMED<pipewright::rule::complete, 1, 0, pipewright::kind::backward, 1, 0>
// expect(nvcc) backward_first: pipewright: this schedule is broken; the arguments of SCHEDULE_IS_MALFORMED say which rule, rank, position and action
// expect(nvcc) backward_first: with Broken=pipewright::rule::complete, Rank=1, Position=0, What=pipewright::kind::backward, Stage=1, MicroBatch=0
// expect missing: pipewright: this schedule is broken; the arguments of SCHEDULE_IS_MALFORMED say which rule, rank, position and action
// expect missing: SCHEDULE_IS_MALFORMED<pipewright::rule::complete, 1, 7, pipewright::kind::backward, 1, 3>
// expect(nvcc) missing: pipewright: this schedule is broken; the arguments of SCHEDULE_IS_MALFORMED say which rule, rank, position and action
// expect(nvcc) missing: with Broken=pipewright::rule::complete, Rank=1, Position=7, What=pipewright::kind::backward, Stage=1, MicroBatch=3
// expect doubled: pipewright: this schedule is broken; the arguments of SCHEDULE_IS_MALFORMED say which rule, rank, position and action
// expect doubled: SCHEDULE_IS_MALFORMED<pipewright::rule::complete, 1, 5, pipewright::kind::forward, 1, 2>
// expect(nvcc) doubled: pipewright: this schedule is broken; the arguments of SCHEDULE_IS_MALFORMED say which rule, rank, position and action
// expect(nvcc) doubled: with Broken=pipewright::rule::complete, Rank=1, Position=5, What=pipewright::kind::forward, Stage=1, MicroBatch=2
// expect waits_for_ever: pipewright: this schedule is broken; the arguments of SCHEDULE_IS_MALFORMED say which rule, rank, position and action
// expect waits_for_ever: SCHEDULE_IS_MALFORMED<pipewright::rule::feasible, 0, 1, pipewright::kind::backward, 0, 0>
// expect(nvcc) waits_for_ever: pipewright: this schedule is broken; the arguments of SCHEDULE_IS_MALFORMED say which rule, rank, position and action
// expect(nvcc) waits_for_ever: with Broken=pipewright::rule::feasible, Rank=0, Position=1, What=pipewright::kind::backward, Stage=0, MicroBatch=0
// expect misplaced: SCHEDULE_IS_MALFORMED<pipewright::rule::placement, 0, 0, pipewright::kind::forward, 0, 0>
// expect(nvcc) misplaced: with Broken=pipewright::rule::placement, Rank=0, Position=0, What=pipewright::kind::forward, Stage=0, MicroBatch=0
// expect early_forward: SCHEDULE_IS_MALFORMED<pipewright::rule::weights,
// expect(nvcc) early_forward: with Broken=pipewright::rule::weights,
#include <pipewright/plan/constant_plan.hpp>

namespace pw = pipewright;

// flush, but spoilt on rank 1.
enum class fault { none, backward_first, missing, doubled, waits_for_ever };
template<fault Fault> struct spoilt : pw::schedule_defaults {
  static constexpr std::string_view name = "spoilt";
  static constexpr void order(pw::shape s, int rank, auto&& emit) {
    // Rank 0 wants B0 before it runs F1, rank 1 wants F1 before it runs B0.
    if (Fault == fault::waits_for_ever)
      return rank == 0 ? pw::sequential::order(s, rank, emit) : pw::gpipe::order(s, rank, emit);
    if (rank != 1 || Fault == fault::none) return pw::flush::order(s, rank, emit);
    if (Fault == fault::backward_first) emit(pw::backward(1, 0));
    pw::flush::order(s, rank, [&](pw::action a) {
      if (Fault == fault::backward_first && a == pw::backward(1, 0)) return;
      if (Fault == fault::missing && a == pw::backward(1, 3)) return;
      emit(a);
      if (Fault == fault::doubled && a == pw::forward(1, 2)) emit(a);
    });
  }
};

// The ranks of flush in the wrong order of stages.
struct misplaced : spoilt<fault::none> {
  static constexpr int rank_of(pw::shape s, int stage) { return s.ranks - 1 - stage; }
};

// Stashing, but each rank runs one forward more ahead than its rule has weights for.
struct early_forward : pw::one_f_one_b {
  static constexpr std::string_view name = "early forward";
  static constexpr void order(pw::shape s, int rank, auto&& emit) {
    int const total = s.total_micro_batches(), ahead = s.ranks - rank + 1;
    for (int m = 0; m < total + ahead; ++m) {
      if (m < total) emit(pw::forward(rank, m));
      if (m >= ahead - 1 && m < total + ahead - 1) emit(pw::backward(rank, m - ahead + 1));
    }
  }
};

constexpr pw::shape small{.ranks = 2, .micro_batches = 4};

int main() {
  constexpr auto control = pw::plan<spoilt<fault::none>, small>;
  constexpr auto interleaved = pw::plan<pw::interleaved<2>, small>;
  constexpr auto stashing = pw::plan<pw::one_f_one_b, small>;
#if defined(PIPEWRIGHT_CASE_no_ranks)
  constexpr auto bad = pw::plan<pw::flush, pw::shape{.ranks = 0, .micro_batches = 4}>;
#elif defined(PIPEWRIGHT_CASE_too_many_stages)
  constexpr auto bad = pw::plan<pw::flush, pw::shape{.ranks = 100'000, .micro_batches = 4}>;
#elif defined(PIPEWRIGHT_CASE_chunks_of_flush)
  constexpr auto bad = pw::plan<pw::flush, pw::shape{.ranks = 2, .micro_batches = 4, .chunks = 2}>;
#elif defined(PIPEWRIGHT_CASE_chunks_of_the_type)
  constexpr auto bad = pw::plan<pw::interleaved<2>, pw::shape{.ranks = 2, .micro_batches = 4, .chunks = 3}>;
#elif defined(PIPEWRIGHT_CASE_one_chunk)
  constexpr auto bad = pw::plan<pw::interleaved<>, pw::shape{.ranks = 2, .micro_batches = 4, .chunks = 1}>;
#elif defined(PIPEWRIGHT_CASE_group)
  constexpr auto bad = pw::plan<pw::interleaved<2>, pw::shape{.ranks = 4, .micro_batches = 8, .group = 7}>;
#elif defined(PIPEWRIGHT_CASE_few_micro_batches)
  constexpr auto bad = pw::plan<pw::two_buffered, pw::shape{.ranks = 4, .micro_batches = 2}>;
#elif defined(PIPEWRIGHT_CASE_batches)
  constexpr auto bad = pw::plan<pw::gpipe, pw::shape{.ranks = 4, .micro_batches = 2, .batches = 3}>;
#elif defined(PIPEWRIGHT_CASE_norm_under_stashing)
  constexpr auto bad = pw::plan<pw::one_f_one_b, small, pw::needs{.step_facts = true}>;
#elif defined(PIPEWRIGHT_CASE_tie_of_no_stage)
  constexpr auto bad = pw::plan<pw::flush, pw::shape{4, 8}, pw::needs{.tied_first = 0, .tied_second = 4}>;
#elif defined(PIPEWRIGHT_CASE_backward_first)
  constexpr auto bad = pw::plan<spoilt<fault::backward_first>, small>;
#elif defined(PIPEWRIGHT_CASE_missing)
  constexpr auto bad = pw::plan<spoilt<fault::missing>, small>;
#elif defined(PIPEWRIGHT_CASE_doubled)
  constexpr auto bad = pw::plan<spoilt<fault::doubled>, small>;
#elif defined(PIPEWRIGHT_CASE_misplaced)
  constexpr auto bad = pw::plan<misplaced, small>;
#elif defined(PIPEWRIGHT_CASE_early_forward)
  constexpr auto bad = pw::plan<early_forward, small>;
#elif defined(PIPEWRIGHT_CASE_waits_for_ever)
  constexpr auto bad = pw::plan<spoilt<fault::waits_for_ever>, small>;
#endif
}
