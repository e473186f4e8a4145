// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include <pipewright/plan/plan_view.hpp>

namespace pipewright::inline v0 {

/// The buffers of a stage, in the order of slot_depths.
enum class ring : std::uint8_t {
  input,
  saved,
  recomputed,
  last_saved,
  output,
  output_gradient,
  input_gradient,
  gradients
};
inline constexpr int rings_of_a_stage = 8;

/// When buffers live: the one place that knows. What it needs of a plan stands in members of its own, and an action comes as
/// its parts, since calls and copies are what a constant evaluation pays for.
class lifetimes {
 public:
  constexpr explicit lifetimes(plan_view const& p)
      : rank_of_stage_{p.rank_of_stage},
        last_{p.stages() - 1},
        micro_batches_{p.facts.micro_batches},
        interval_{p.update_interval()},
        trains_{p.backward != backward_form::none},
        recompute_{trains_ ? p.wants.recompute : recompute_mode::never},
        recomputes_{recompute_ != recompute_mode::never},
        facts_{p.facts} {}

  /// Calls touch.begin(ring, stage, key) and touch.end(ring, stage, key) for every buffer whose life an instruction begins or
  /// ends; `key` is what its slots are keyed by.
  constexpr void visit(int rank, kind what, int s, int m, auto& touch) const {
    if (what > kind::recompute) {  // no switch: a constant evaluation walks through all cases before its own
      if (what < kind::send_backward) {
        if (what == kind::send_forward) touch.end(ring::output, s, m);
        else if (what != kind::wait_forward) touch.begin(ring::input, s, m);
      } else if (what <= kind::wait_backward) {
        if (what == kind::send_backward) touch.end(ring::input_gradient, s, m);
        else if (what != kind::wait_backward) touch.begin(ring::output_gradient, s, m);
      } else if (what == kind::update) {
        touch.end(ring::gradients, s, m / interval_);
      }
      return;
    }
    bool const again = recomputes_ && is_recomputed(recompute_, facts_, m);
    if (what == kind::forward) {
      if (s == 0) touch.begin(ring::input, s, m);
      touch.begin(ring::saved, s, m);
      if (recomputes_ && !again) touch.begin(ring::last_saved, s, m / micro_batches_);
      if (s < last_) {
        if (rank_of_stage_[s + 1] == rank) touch.begin(ring::input, s + 1, m);
        else touch.begin(ring::output, s, m);
      }
      if (trains_) return;
      touch.end(ring::input, s, m);
      touch.end(ring::saved, s, m);
      return;
    }
    if (what == kind::recompute) return touch.begin(ring::recomputed, s, m);
    if (s > 0 && what != kind::backward_weight) {
      if (rank_of_stage_[s - 1] == rank) touch.begin(ring::output_gradient, s - 1, m);
      else touch.begin(ring::input_gradient, s, m);
    }
    if (what == kind::backward_input) return;
    if (m % interval_ == 0) touch.begin(ring::gradients, s, m / interval_);
    touch.end(ring::input, s, m);
    touch.end(ring::saved, s, m);
    if (again) touch.end(ring::recomputed, s, m);
    else if (recomputes_) touch.end(ring::last_saved, s, m / micro_batches_);
    if (s < last_) touch.end(ring::output_gradient, s, m);
  }

 private:
  int const* rank_of_stage_;
  int last_, micro_batches_, interval_;
  bool trains_;
  recompute_mode recompute_;
  bool recomputes_;
  shape facts_;
};

namespace detail {

/// The keys (micro-batches, batches, updates) that each ring holds, and the smallest rings that ever hold them all.
class ring_meters {
  struct meter {
    int low, high;  // keys held; none where high < low
    int depth;
    bool* live;  // by key
  };

 public:
  constexpr ring_meters(int stages, int keys)
      : keys_{keys},
        live_(static_cast<std::size_t>(stages) * rings_of_a_stage * static_cast<std::size_t>(keys)),
        meters_(static_cast<std::size_t>(stages) * rings_of_a_stage),
        meters_data_{meters_.data()} {
    for (int i = 0; i < stages * rings_of_a_stage; ++i)
      meters_data_[i] = {keys, -1, 0, live_.data() + static_cast<std::size_t>(i) * static_cast<std::size_t>(keys)};
  }

  constexpr void begin(ring which, int stage, int key) {
    meter& m = meters_data_[stage * rings_of_a_stage + static_cast<int>(which)];
    m.live[key] = true;
    if (key < m.low) m.low = key;
    if (key > m.high) m.high = key;
    if (m.high - m.low >= m.depth) m.depth = m.high - m.low + 1;
  }
  constexpr void end(ring which, int stage, int key) {
    meter& m = meters_data_[stage * rings_of_a_stage + static_cast<int>(which)];
    m.live[key] = false;
    if (key == m.low)
      while (m.low <= m.high && !m.live[m.low]) ++m.low;
    else
      while (m.high >= m.low && !m.live[m.high]) --m.high;
    if (m.low > m.high) {
      m.low = keys_;
      m.high = -1;
    }
  }
  constexpr int depth(ring which, int stage) const {
    return meters_data_[stage * rings_of_a_stage + static_cast<int>(which)].depth;
  }

 private:
  int keys_;
  block<bool> live_;
  block<meter> meters_;
  meter* meters_data_;
};

}  // namespace detail

/// The slot plan: how deep each ring of each stage must be for p.programs. Outputs and input gradients get a second slot
/// so that a send overlaps the next action. Linear.
constexpr block<slot_depths> plan_slots(plan_view const& p) {
  int const total = p.facts.total_micro_batches(), stages = p.stages();
  lifetimes const lives(p);
  detail::ring_meters meters(stages, total);
  for (int r = 0; r < p.programs.count; ++r) {
    instruction const* const row = p.programs.begin_of(r);
    for (int at = 0, n = p.programs.length(r); at < n; ++at) {
      action const& a = row[at].what;
      if (a.what == kind::wait_forward || a.what == kind::wait_backward) continue;
      lives.visit(r, a.what, a.stage, a.micro_batch, meters);
    }
  }
  block<slot_depths> result(static_cast<std::size_t>(stages));
  for (int s = 0; s < stages; ++s) {
    auto depth = [&](ring which) { return meters.depth(which, s); };
    auto doubled = [&](ring which) { return depth(which) == 0 ? 0 : std::min(std::max(depth(which), 2), total); };
    result[static_cast<std::size_t>(s)] = {
        depth(ring::input),    depth(ring::saved),           depth(ring::recomputed),       depth(ring::last_saved),
        doubled(ring::output), depth(ring::output_gradient), doubled(ring::input_gradient), depth(ring::gradients)};
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
