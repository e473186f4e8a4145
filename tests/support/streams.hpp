// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include <support/program_set.hpp>
#include <support/view_of.hpp>

#include <pipewright/plan/plan_view.hpp>

namespace support {

/// A stream open to change: programs of prologue and one period, and how they repeat.
struct stream_set {
  program_set once;
  std::vector<pipewright::period_marks> period;  ///< by rank
  int period_micro_batches = 0, period_updates = 0;
};

inline stream_set stream_of(pipewright::plan_view const& plan) {
  stream_set result{copy_of(plan), {}, plan.period_micro_batches, plan.period_updates};
  for (int r = 0; r < plan.facts.ranks; ++r) result.period.push_back(plan.period[r]);
  return result;
}

/// The stream's first `batches` batches, then drained: written out instruction by instruction, repetition by repetition,
/// what belongs to later micro-batches left out.
inline program_set drained(stream_set const& stream, int batches) {
  program_set result = stream.once;
  result.facts.batches = batches;
  int const admitted = result.micro_batches();
  for (std::size_t r = 0; r < result.programs.size(); ++r) {
    auto const& row = stream.once.programs[r];
    auto const [prologue, length] = stream.period[r];
    auto& out = result.programs[r];
    out.clear();
    auto admit = [&](pipewright::instruction i) {
      if (i.what.micro_batch < admitted) out.push_back(i);
    };
    for (int i = 0; i < prologue; ++i) admit(row[static_cast<std::size_t>(i)]);
    int const repetitions = admitted / std::max(1, stream.period_micro_batches) + 2 * result.ranks() + 4;
    for (int k = 0; k < repetitions; ++k)
      for (int i = prologue; i < prologue + length; ++i) {
        auto one = row[static_cast<std::size_t>(i)];
        one.what.micro_batch += k * stream.period_micro_batches;
        if (pipewright::is_compute(one.what.what) || one.what.what == pipewright::kind::update)
          one.version += k * stream.period_updates;
        admit(one);
      }
  }
  return result;
}

/// A stream_set in the library's own form.
class viewable_stream {
 public:
  explicit viewable_stream(stream_set const& s) : stream_{s}, rows_{s.once} {}
  pipewright::plan_view view() const {
    auto v = rows_.view();
    v.period = stream_.period.data();
    v.period_micro_batches = stream_.period_micro_batches;
    v.period_updates = stream_.period_updates;
    return v;
  }

 private:
  stream_set const& stream_;
  viewable rows_;
};

}  // namespace support
