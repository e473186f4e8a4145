// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include <pipewright/plan/plan_view.hpp>

namespace pipewright::inline v0 {

namespace detail {

/// The micro-batches (or batches) that one buffer of one stage holds, and the smallest ring that ever held them all.
class ring_meter {
 public:
  constexpr ring_meter() = default;
  constexpr explicit ring_meter(int keys) : live_(static_cast<std::size_t>(keys)), low_{keys} {}

  constexpr void begin(int key) {
    live_[static_cast<std::size_t>(key)] = true;
    low_ = std::min(low_, key);
    high_ = std::max(high_, key);
    depth_ = std::max(depth_, high_ - low_ + 1);
  }
  constexpr void end(int key) {
    live_[static_cast<std::size_t>(key)] = false;
    while (low_ <= high_ && !live_[static_cast<std::size_t>(low_)]) ++low_;
    while (high_ >= low_ && !live_[static_cast<std::size_t>(high_)]) --high_;
    if (low_ > high_) {
      low_ = static_cast<int>(live_.size());
      high_ = -1;
    }
  }
  constexpr int depth() const { return depth_; }

 private:
  block<bool> live_;
  int low_ = 0, high_ = -1, depth_ = 0;
};

struct stage_meters {
  ring_meter input, saved, recomputed, last_saved, output, output_gradient, input_gradient, gradients;
};

}  // namespace detail

/// Calls begin(ring, stage, key) and end(ring, stage, key) for every buffer whose life an instruction begins or ends;
/// `ring` is a pointer to member of slot_depths, `key` what its slots are keyed by. The one place that knows lifetimes.
constexpr void for_each_lifetime(plan_view const& p, int rank, action a, auto&& begin, auto&& end) {
  int const s = a.stage, m = a.micro_batch, stages = p.stages();
  recompute_mode const mode = p.backward == backward_form::none ? recompute_mode::never : p.wants.recompute;
  auto here = [&](int stage) { return p.rank_of_stage[stage] == rank; };
  auto end_of_backward = [&] {
    end(&slot_depths::input, s, m);
    end(&slot_depths::saved, s, m);
    if (is_recomputed(mode, p.facts, m)) end(&slot_depths::recomputed, s, m);
    else if (mode != recompute_mode::never) end(&slot_depths::last_saved, s, m / p.facts.micro_batches);
    if (s + 1 < stages) end(&slot_depths::output_gradient, s, m);
  };
  switch (a.what) {
    case kind::receive_forward:
    case kind::post_forward: begin(&slot_depths::input, s, m); break;
    case kind::forward:
      if (s == 0) begin(&slot_depths::input, s, m);
      begin(&slot_depths::saved, s, m);
      if (mode != recompute_mode::never && !is_recomputed(mode, p.facts, m))
        begin(&slot_depths::last_saved, s, m / p.facts.micro_batches);
      if (s + 1 < stages) {
        if (here(s + 1)) begin(&slot_depths::input, s + 1, m);
        else begin(&slot_depths::output, s, m);
      }
      if (p.backward == backward_form::none) {
        end(&slot_depths::input, s, m);
        end(&slot_depths::saved, s, m);
      }
      break;
    case kind::send_forward: end(&slot_depths::output, s, m); break;
    case kind::receive_backward:
    case kind::post_backward: begin(&slot_depths::output_gradient, s, m); break;
    case kind::recompute: begin(&slot_depths::recomputed, s, m); break;
    case kind::backward:
    case kind::backward_input:
      if (s > 0) {
        if (here(s - 1)) begin(&slot_depths::output_gradient, s - 1, m);
        else begin(&slot_depths::input_gradient, s, m);
      }
      if (a.what == kind::backward_input) break;
      [[fallthrough]];
    case kind::backward_weight:
      if (m % p.update_interval() == 0) begin(&slot_depths::gradients, s, m / p.update_interval());
      end_of_backward();
      break;
    case kind::send_backward: end(&slot_depths::input_gradient, s, m); break;
    case kind::update: end(&slot_depths::gradients, s, m / p.update_interval()); break;
    default: break;
  }
}

/// The slot plan: how deep each ring of each stage must be for p.programs. Outputs and input gradients get a second slot
/// so that a send overlaps the next action. Linear.
constexpr block<slot_depths> plan_slots(plan_view const& p) {
  int const total = p.facts.total_micro_batches(), batches = total / p.facts.micro_batches;
  int const updates = total / p.update_interval();
  block<slot_depths> result(static_cast<std::size_t>(p.stages()));
  block<detail::stage_meters> meters(static_cast<std::size_t>(p.stages()));
  auto meter = [&](int slot_depths::*ring, int stage) -> detail::ring_meter& {
    detail::stage_meters& m = meters[static_cast<std::size_t>(stage)];
    return ring == &slot_depths::input           ? m.input
        : ring == &slot_depths::saved            ? m.saved
        : ring == &slot_depths::recomputed       ? m.recomputed
        : ring == &slot_depths::last_saved       ? m.last_saved
        : ring == &slot_depths::output           ? m.output
        : ring == &slot_depths::output_gradient  ? m.output_gradient
        : ring == &slot_depths::input_gradient   ? m.input_gradient
                                                 : m.gradients;
  };
  for (int r = 0; r < p.programs.count; ++r) {
    for (int s = 0; s < p.stages(); ++s)
      if (p.rank_of_stage[s] == r) {
        auto ring = [&] { return detail::ring_meter(total); };
        meters[static_cast<std::size_t>(s)] = {ring(), ring(), ring(), detail::ring_meter(batches), ring(), ring(), ring(), detail::ring_meter(updates)};
      }
    instruction const* row = p.programs.begin_of(r);
    for (int at = 0, n = p.programs.length(r); at < n; ++at)
      for_each_lifetime(
          p, r, row[at].what, [&](int slot_depths::*ring, int s, int key) { meter(ring, s).begin(key); },
          [&](int slot_depths::*ring, int s, int key) { meter(ring, s).end(key); });
    for (int s = 0; s < p.stages(); ++s)
      if (p.rank_of_stage[s] == r) {
        detail::stage_meters const& m = meters[static_cast<std::size_t>(s)];
        auto doubled = [&](int depth) { return depth == 0 ? 0 : std::min(std::max(depth, 2), total); };
        result[static_cast<std::size_t>(s)] = {m.input.depth(), m.saved.depth(), m.recomputed.depth(), m.last_saved.depth(),
                                               doubled(m.output.depth()), m.output_gradient.depth(),
                                               doubled(m.input_gradient.depth()), m.gradients.depth()};
        meters[static_cast<std::size_t>(s)] = {};
      }
  }
  return result;
}

/// The most micro-batches times chunks that a rank holds between a forward and the end of its backward. Linear.
constexpr int peak_in_flight(plan_view const& p, int rank) {
  int held = 0, peak = 0;
  for (instruction const i : p.programs[rank]) {
    if (i.what.what == kind::forward) peak = std::max(peak, ++held);
    if (gives_weight_gradient(i.what.what)) --held;
    if (p.backward == backward_form::none && i.what.what == kind::forward) --held;
  }
  return peak;
}

/// The most distinct weight versions a rank ever needs at once: those that micro-batches in flight or yet to come read,
/// and the newest. Linear: versions a rank reads never decrease.
constexpr int peak_weight_versions(plan_view const& p, int rank) {
  int const total = p.facts.total_micro_batches();
  int newest = 0, oldest_unfinished = 0, peak = 1;
  block<int> left(static_cast<std::size_t>(total));  // backwards a micro-batch still lacks on this rank
  int held = 0;
  for (int s = 0; s < p.stages(); ++s) held += p.rank_of_stage[s] == rank;
  for (int m = 0; m < total; ++m) left[static_cast<std::size_t>(m)] = held;
  for (instruction const i : p.programs[rank]) {
    if (gives_weight_gradient(i.what.what)) --left[static_cast<std::size_t>(i.what.micro_batch)];
    while (oldest_unfinished < total && left[static_cast<std::size_t>(oldest_unfinished)] == 0) ++oldest_unfinished;
    if (i.what.what != kind::update || i.version <= newest) continue;
    newest = i.version;
    if (oldest_unfinished == total) continue;
    // Read versions grow one by one with the micro-batch, so those between the oldest needed and the last needed are all
    // needed; beyond the newest none exists yet.
    int const oldest = version_read(p.weights, p.facts, rank, oldest_unfinished);
    int const last = std::min(version_read(p.weights, p.facts, rank, total - 1), newest);
    peak = std::max(peak, last - oldest + 1 + (last < newest));
  }
  return peak;
}

}  // namespace pipewright::inline v0
