// SPDX-License-Identifier: Apache-2.0
#include <laws/schedule.hpp>
#include <support/more_schedules.hpp>

#include <pipewright/schedule/named.hpp>

namespace pw = pipewright;

TEST_CASE_TEMPLATE("every schedule keeps the laws", Policy, pw::sequential, pw::gpipe, pw::one_f_one_b,
                   pw::one_f_one_b_vertical_sync, pw::two_buffered, pw::flush, pw::forward_only, pw::interleaved<2>,
                   pw::interleaved<3>, pw::interleaved<>) {
  laws::schedule<Policy>();
}

TEST_CASE_TEMPLATE("so do schedules of other kinds", Policy, support::descending_gpipe, support::zero_bubble_h1,
                   support::breadth_first_v) {
  laws::schedule<Policy>();
}

// Negative controls: a law that nothing can break proves nothing.
namespace {

struct forgets_the_last_backward : pw::schedule_defaults {
  static constexpr std::string_view name = "forgets the last backward";
  static constexpr void order(pw::shape s, int rank, auto&& emit) {
    pw::flush::order(s, rank, [&](pw::action a) {
      if (a != pw::backward(rank, s.micro_batches - 1)) emit(a);
    });
  }
};

struct backward_before_forward : pw::schedule_defaults {
  static constexpr std::string_view name = "backward before forward";
  static constexpr void order(pw::shape s, int rank, auto&& emit) {
    for (int m = 0; m < s.micro_batches; ++m) {
      emit(pipewright::backward(rank, m));
      emit(pw::forward(rank, m));
    }
  }
};

/// Rank 0 waits for a backward that the others start only after all forwards.
struct too_little_warm_up : pw::schedule_defaults {
  static constexpr std::string_view name = "too little warm-up";
  static constexpr void order(pw::shape s, int rank, auto&& emit) {
    if (rank == 0) pw::sequential::order(s, rank, emit);
    else pw::gpipe::order(s, rank, emit);
  }
};

struct runs_a_neighbours_stage : pw::schedule_defaults {
  static constexpr std::string_view name = "runs a neighbour's stage";
  static constexpr void order(pw::shape s, int rank, auto&& emit) { pw::gpipe::order(s, (rank + 1) % s.ranks, emit); }
};

/// A shape that is completed for ever.
struct never_complete : pw::gpipe {
  static constexpr pw::shape complete(pw::shape s) {
    ++s.micro_batches;
    return s;
  }
};

}  // namespace

TEST_CASE("the laws see broken schedules") {
  constexpr pw::shape s{.ranks = 3, .micro_batches = 4, .chunks = 1};
  CHECK_EQ(laws::broken_law<pw::flush>(s), "");
  CHECK_EQ(laws::broken_law<forgets_the_last_backward>(s),
           "stage 0 and micro-batch 3 are not run through once each, in order");
  CHECK_EQ(laws::broken_law<backward_before_forward>(s),
           "stage 0 and micro-batch 0 are not run through once each, in order");
  CHECK_EQ(laws::broken_law<too_little_warm_up>(s), "the ranks wait for one another for ever");
  CHECK_EQ(laws::broken_law<runs_a_neighbours_stage>(s), "1F0 on rank 0: the stage is not this rank's");
  CHECK_EQ(laws::broken_legality_law<never_complete>({.ranks = 2, .micro_batches = 3, .chunks = 1}),
           "completing a complete shape changes it");
}
