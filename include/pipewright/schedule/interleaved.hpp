// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include <pipewright/schedule/policy.hpp>

namespace pipewright::inline v0 {

/// V is not in the type but in shape.chunks: for shapes known only at start-up.
inline constexpr int chunks_of_the_shape = 0;

/// Interleaved 1F1B (Megatron-LM, SC 2021) with a general micro-batch group size G: loop placement, V chunks a rank.
/// In groups of G micro-batches, a chunk runs the group before the next chunk does. Rank r runs
/// min((V-1)G + 2(P-1-r), MV) forwards first. Legal where G >= P and M mod G is 0 or >= P, or G = M < P; by default the
/// smallest such G, PyTorch's wherever PyTorch accepts the shape. Bubble (P-1)(t_f+t_b)/V for M >= P, in flight
/// min(MV, (V-1)G + 2(P-1-r) + 1) chunks, one weight version.
template<int V = chunks_of_the_shape> struct interleaved : schedule_defaults {
  static_assert(V != 1,
                "pipewright: interleaved<1> is not interleaved; choose flush, which is the same with one chunk a rank");
  static_assert(V >= 0, "pipewright: interleaved<V> needs V >= 2 chunks a rank");

  static constexpr std::string_view name = "interleaved";

  static constexpr shape complete(shape s) {
    if (s.chunks == 0) s.chunks = V == chunks_of_the_shape ? 2 : V;
    if (s.group == 0 && s.ranks > 0 && s.micro_batches > 0) {
      s.group = std::min(s.ranks, s.micro_batches);
      while (!group_fits(s, s.group)) ++s.group;  // ends at G = M
    }
    return s;
  }

  static constexpr shape_fault check(shape s) {
    shape nearest = s;
    if (V != chunks_of_the_shape && s.chunks != V) {
      nearest.chunks = V;
      return {shape_rule::chunks_of_the_type, nearest};
    }
    if (s.chunks < 2) {
      nearest.chunks = 2;
      return {shape_rule::two_chunks_or_more, nearest};
    }
    if (group_fits(s, s.group)) return {};
    for (int away = 1;; ++away) {  // ends: G = M is legal
      if (group_fits(s, nearest.group = s.group - away) || group_fits(s, nearest.group = s.group + away))
        return {shape_rule::group_fits, nearest};
    }
  }

  static constexpr void order(shape s, int rank, auto&& emit) {
    int const total = s.micro_batches * s.chunks;
    int const warm_up = std::min((s.chunks - 1) * s.group + 2 * (s.ranks - 1 - rank), total);
    auto run = [&](kind what, int index) {
      int const group = index / (s.group * s.chunks);
      int const first = group * s.group;
      int const size = std::min(s.group, s.micro_batches - first);
      int const within = index - first * s.chunks;
      int const chunk = within / size;
      int const local = what == kind::forward ? chunk : s.chunks - 1 - chunk;
      emit(make_action(what, local * s.ranks + rank, first + within % size));
    };
    for (int i = 0; i < warm_up; ++i) run(kind::forward, i);
    for (int i = warm_up; i < total; ++i) {
      run(kind::forward, i);
      run(kind::backward, i - warm_up);
    }
    for (int i = total - warm_up; i < total; ++i) run(kind::backward, i);
  }

 private:
  static constexpr bool group_fits(shape s, int group) {
    if (s.micro_batches < s.ranks) return group == s.micro_batches;
    if (group < s.ranks)
      return false;  // a chunk would come round before its first group has: deadlock, or a longer bubble
    int const rest = s.micro_batches % group;
    return rest == 0 || rest >= s.ranks;
  }
};
static_assert(schedule_policy<interleaved<2>> && schedule_policy<interleaved<>>);

}  // namespace pipewright::inline v0
