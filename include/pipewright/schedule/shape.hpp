// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace pipewright::inline v0 {

/// The facts a schedule is computed from. A small structural value: fit to be a template argument.
///
/// Zero stands for "as the schedule has it": `chunks` is then the schedule's own number (1, or V of `interleaved<V>`),
/// `group` its default micro-batch group. `complete<Policy>(shape)` fills both in.
struct shape {
  int ranks = 1;          ///< P, pipeline ranks
  int micro_batches = 1;  ///< M, micro-batches of one batch
  int chunks = 0;         ///< V, stages a rank holds ("virtual stages")
  int group = 0;          ///< G, micro-batches that interleaved runs through a chunk before it turns to the next
  int batches = 1;        ///< batches that an asynchronous stream admits before it drains; 1 for all others

  /// S = P * V, the number of stages.
  constexpr int stages() const { return ranks * (chunks > 0 ? chunks : 1); }
  /// Micro-batches in all batches together.
  constexpr int total_micro_batches() const { return micro_batches * batches; }

  friend constexpr bool operator==(shape const&, shape const&) = default;
};

/// The largest numbers that a plan can hold; larger ones are refused with a sentence.
inline constexpr int max_stages = 65'535;
inline constexpr int max_micro_batches = 1 << 26;

}  // namespace pipewright::inline v0
