// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/plan/memory.hpp>

namespace pipewright::inline v0::detail {

/// What every slot of a plan holds, while its programs run. What lifetimes touch.
class slot_owners {
 public:
  constexpr explicit slot_owners(plan_view const& p)
      : rings_count_{p.stages() * rings_of_a_stage},
        rings_(static_cast<std::size_t>(rings_count_)),
        ring_{rings_.data()} {
    int slots = 0;
    for (int s = 0, i = 0; s < p.stages(); ++s) {
      slot_depths const& d = p.slots[s];
      for (int const depth :
           {d.input, d.saved, d.recomputed, d.last_saved, d.output, d.output_gradient, d.input_gradient, d.gradients}) {
        ring_[i++].depth = depth;
        slots += depth;
      }
    }
    owners_ = block<int>(static_cast<std::size_t>(slots));
    int* next = owners_.data();
    for (int i = 0; i < rings_count_; ++i) {
      ring_[i].owners = next;
      next += ring_[i].depth;
    }
  }

  /// A slot was taken while it held something, or given back by who did not hold it.
  bool broken = false;

  constexpr void begin(ring which, int stage, int key) {
    ring_of_slots const& its = ring_[stage * rings_of_a_stage + static_cast<int>(which)];
    if (its.depth <= 0) return void(broken = true);
    int& owner = its.owners[key % its.depth];
    if (owner != 0 && !(which == ring::gradients && owner == key + 1)) broken = true;
    owner = key + 1;
  }
  constexpr void end(ring which, int stage, int key) {
    ring_of_slots const& its = ring_[stage * rings_of_a_stage + static_cast<int>(which)];
    if (its.depth <= 0) return void(broken = true);
    int& owner = its.owners[key % its.depth];
    if (owner != key + 1) broken = true;
    owner = 0;
  }

  /// Whether slots hold what they held in `earlier`, so much later by what each is keyed by.
  constexpr bool repeats(slot_owners const& earlier, int micro_batches, int batches, int updates) const {
    for (int i = 0; i < rings_count_; ++i) {
      ring const which{static_cast<std::uint8_t>(i % rings_of_a_stage)};
      int const by = which == ring::gradients ? updates : which == ring::last_saved ? batches : micro_batches;
      for (int depth = ring_[i].depth, index = 0; index < depth; ++index) {
        int const was = earlier.ring_[i].owners[index];
        if (ring_[i].owners[(index + by) % depth] != (was == 0 ? 0 : was + by)) return false;
      }
    }
    return true;
  }

 private:
  struct ring_of_slots {
    int depth;
    int* owners;  // by slot: what it holds, plus 1
  };
  int rings_count_;
  block<ring_of_slots> rings_;  // by stage and ring
  ring_of_slots* ring_;
  block<int> owners_;
};

}  // namespace pipewright::inline v0::detail
