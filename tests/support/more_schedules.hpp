// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include <pipewright/schedule/policy.hpp>

/// Schedules that the library does not ship, with what its own do not have: descending backwards, split backwards,
/// a V-shaped placement. For tests of what must not depend on a schedule.
namespace support {

/// torchgpipe: as GPipe, the backwards in descending order.
struct descending_gpipe : pipewright::schedule_defaults {
  static constexpr std::string_view name = "descending gpipe";
  static constexpr void order(pipewright::shape s, int rank, auto&& emit) {
    for (int m = 0; m < s.micro_batches; ++m) emit(pipewright::forward(rank, m));
    for (int m = s.micro_batches - 1; m >= 0; --m) emit(pipewright::backward(rank, m));
  }
};

/// ZB-H1 (Zero Bubble, arXiv 2401.10241): min(P-r-1, M) forwards, then F, I and a W that lags r behind.
struct zero_bubble_h1 : pipewright::schedule_defaults {
  static constexpr std::string_view name = "zero bubble h1";
  static constexpr pipewright::backward_form backward = pipewright::backward_form::split;
  static constexpr void order(pipewright::shape s, int rank, auto&& emit) {
    int const warm_up = std::min(s.ranks - rank - 1, s.micro_batches);
    int f = 0, w = 0;
    while (f < warm_up) emit(pipewright::forward(rank, f++));
    for (int j = 0; j < s.micro_batches; ++j) {
      if (f < s.micro_batches) emit(pipewright::forward(rank, f++));
      emit(pipewright::backward_input(rank, j));
      if (j >= rank) emit(pipewright::backward_weight(rank, w++));
    }
    while (w < s.micro_batches) emit(pipewright::backward_weight(rank, w++));
  }
};

/// Breadth-first on a V: stage s on rank s, then back; all forwards of a chunk, all backwards of a chunk, descending.
struct breadth_first_v : pipewright::schedule_defaults {
  static constexpr std::string_view name = "breadth-first V";
  static constexpr int rank_of(pipewright::shape s, int stage) {
    return stage < s.ranks ? stage : 2 * s.ranks - 1 - stage;
  }
  static constexpr pipewright::shape complete(pipewright::shape s) {
    if (s.chunks == 0) s.chunks = 2;
    return s;
  }
  static constexpr pipewright::shape_fault check(pipewright::shape s) {
    if (s.chunks == 2) return {};
    s.chunks = 2;
    return {pipewright::shape_rule::two_chunks_or_more, s};
  }
  static constexpr void order(pipewright::shape s, int rank, auto&& emit) {
    int const down = rank, up = 2 * s.ranks - 1 - rank;
    for (int const stage : {down, up})
      for (int m = 0; m < s.micro_batches; ++m) emit(pipewright::forward(stage, m));
    for (int const stage : {up, down})
      for (int m = s.micro_batches - 1; m >= 0; --m) emit(pipewright::backward(stage, m));
  }
};

}  // namespace support
