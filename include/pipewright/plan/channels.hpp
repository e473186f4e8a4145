// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/plan/plan_view.hpp>

namespace pipewright::inline v0 {

/// The channels of a plan, and which of them each boundary uses. Stages on one rank hand values over without a channel.
/// Linear in the stages (a rank has few neighbours).
class channel_table {
 public:
  constexpr channel_table(int ranks, int stages, int const* rank_of_stage, needs wants)
      : rank_of_stage_{rank_of_stage},
        stages_{stages},
        boundaries_(static_cast<std::size_t>(2 * stages)),
        into_{boundaries_.data()},
        facts_from_(static_cast<std::size_t>(ranks)),
        verdict_to_(static_cast<std::size_t>(ranks)),
        newest_from_(static_cast<std::size_t>(ranks)),
        older_(static_cast<std::size_t>(2 * stages + 2 * ranks + 2)),
        keys_(static_cast<std::size_t>(2 * stages + 2 * ranks + 2)) {
    for (int r = 0; r < ranks; ++r) newest_from_[r] = facts_from_[r] = verdict_to_[r] = -1;
    for (int s = 0; s < stages; ++s) {
      into_[2 * s] = s == 0 ? -1 : find_or_add(rank_of_stage[s - 1], rank_of_stage[s], traffic::activation);
      into_[2 * s + 1] = s + 1 == stages ? -1 : find_or_add(rank_of_stage[s + 1], rank_of_stage[s], traffic::gradient);
    }
    if (wants.tied()) {
      tied_up_ = find_or_add(rank_of_stage[wants.tied_first], rank_of_stage[wants.tied_second], traffic::tied_gradient);
      tied_down_ =
          find_or_add(rank_of_stage[wants.tied_second], rank_of_stage[wants.tied_first], traffic::tied_gradient);
    }
    if (wants.step_facts)
      for (int r = 0; r < ranks; ++r) {
        facts_from_[r] = find_or_add(r, rank_of_stage[0], traffic::step);
        verdict_to_[r] = find_or_add(rank_of_stage[0], r, traffic::step);
      }
    tied_first_ = wants.tied_first;
  }

  constexpr int count() const { return count_; }
  constexpr channel_key key(int channel) const { return keys_[static_cast<std::size_t>(channel)]; }

  /// The channels over which a stage's inputs and output gradients come, or -1.
  constexpr int activations_into(int stage) const { return into_[2 * stage]; }
  constexpr int gradients_into(int stage) const { return into_[2 * stage + 1]; }
  /// The same for a stage that may not be there.
  constexpr int into(int stage, traffic carries) const {
    return stage < 0 || stage >= stages_ ? -1 : into_[2 * stage + static_cast<int>(carries)];
  }

  /// The channel that a transfer uses, or -1 where the stages stand on one rank (or there is no neighbour).
  constexpr int of(action const& a) const {
    int const s = a.stage;
    if (a.what <= kind::recompute) return -1;
    if (a.what <= kind::wait_forward) return into(a.what == kind::send_forward ? s + 1 : s, traffic::activation);
    if (a.what <= kind::wait_backward) return into(a.what == kind::send_backward ? s - 1 : s, traffic::gradient);
    switch (a.what) {
      case kind::send_tied: return a.stage == tied_first_ ? tied_up_ : tied_down_;
      case kind::post_tied:
      case kind::wait_tied: return a.stage == tied_first_ ? tied_down_ : tied_up_;
      case kind::send_facts:
      case kind::post_facts:
      case kind::wait_facts: return facts_from_[rank_of_stage_[s]];
      case kind::send_verdict:
      case kind::post_verdict:
      case kind::wait_verdict: return verdict_to_[rank_of_stage_[s]];
      default: return -1;
    }
  }

 private:
  constexpr int find_or_add(int source, int destination, traffic carries) {
    if (source == destination) return -1;
    for (int c = newest_from_[source]; c >= 0; c = older_[c])
      if (keys_[c].destination == destination && keys_[c].carries == carries) return c;
    keys_[count_] = {source, destination, carries};
    older_[count_] = newest_from_[source];
    newest_from_[source] = count_;
    return count_++;
  }

  int const* rank_of_stage_;
  int stages_;
  block<int> boundaries_;
  int* into_;  // by stage: the channels of its activations and of its output gradients
  block<int> facts_from_, verdict_to_, newest_from_, older_;
  block<channel_key> keys_;
  int count_ = 0;
  int tied_up_ = -1, tied_down_ = -1, tied_first_ = -1;
};

constexpr channel_table channels_of(plan_view const& p) {
  return {p.facts.ranks, p.stages(), p.rank_of_stage, p.wants};
}

}  // namespace pipewright::inline v0
