// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <vector>

#include <support/program_set.hpp>
#include <support/terms.hpp>

namespace support {

/// What a run must come to: the recurrences of the papers (GPipe, PipeDream, PipeDream-2BW), one micro-batch after
/// another, without a pipeline.
struct serial_result {
  std::vector<value> losses;                ///< by micro-batch: the last stage's output
  std::vector<std::vector<value>> weights;  ///< by stage and version
};

/// The version that a micro-batch reads on a rank.
inline int version_of_the_papers(program_set const& p, int rank, int m) {
  using pipewright::weight_rule;
  switch (p.weights) {
    case weight_rule::stashing: return std::max(0, m - (p.ranks() - 1 - rank));
    case weight_rule::vertical_sync: return std::max(0, m - (p.ranks() - 1));
    case weight_rule::double_buffered: return std::max(0, m / p.facts.micro_batches - 1);
    case weight_rule::synchronous: break;
  }
  return 0;
}

inline serial_result run_serially(program_set const& p, training_terms& terms) {
  auto const stages = static_cast<std::size_t>(p.stages());
  bool const trains = p.backward != pipewright::backward_form::none;
  bool const recomputes = p.wants.recompute != pipewright::recompute_mode::never;
  serial_result result;
  for (std::size_t s = 0; s < stages; ++s) result.weights.push_back({terms.initial_weights(static_cast<int>(s))});
  std::vector<std::vector<value>> gradients(stages);

  for (int m = 0; m < p.micro_batches(); ++m) {
    std::vector<training_terms::backward_reads> reads(stages);
    value boundary = terms.input(m);
    for (std::size_t s = 0; s < stages; ++s) {
      int const stage = static_cast<int>(s), version = version_of_the_papers(p, p.rank_of_stage[s], m);
      value const w = result.weights[s].at(static_cast<std::size_t>(version));
      value const kept = terms.saved(stage, m, boundary, w);
      reads[s] = {w, boundary, kept, recomputes ? terms.activations(stage, m, boundary, kept, w) : 0, 0};
      boundary = terms.output(stage, m, boundary, w);
    }
    result.losses.push_back(boundary);
    if (!trains) continue;
    for (std::size_t s = stages; s-- > 0;) {
      int const stage = static_cast<int>(s);
      if (s + 1 < stages) reads[s].output_gradient = terms.input_gradient(stage + 1, m, reads[s + 1]);
      gradients[s].push_back(terms.weight_gradient(stage, m, reads[s]));
    }
    if ((m + 1) % p.interval() != 0) continue;

    std::vector<value> sums, tied(stages, 0), ranks;
    for (auto& g : gradients) {
      sums.push_back(terms.sum(g));
      g.clear();
    }
    if (p.wants.tied()) {
      auto const a = static_cast<std::size_t>(p.wants.tied_first), b = static_cast<std::size_t>(p.wants.tied_second);
      tied[a] = sums[b];
      tied[b] = sums[a];
    }
    if (p.wants.step_facts)
      for (int r = 0; r < p.ranks(); ++r) {
        std::vector<value> shares;
        for (std::size_t s = 0; s < stages; ++s)
          if (p.rank_of_stage[s] == r)
            shares.push_back(terms.facts_of_stage(static_cast<int>(s), sums[s],
                                                  static_cast<int>(s) == p.wants.tied_first ? tied[s] : 0));
        ranks.push_back(terms.facts_of_rank(shares));
      }
    value const verdict = p.wants.step_facts ? terms.verdict(ranks) : 0;
    for (std::size_t s = 0; s < stages; ++s)
      result.weights[s].push_back(
          terms.updated(static_cast<int>(s), result.weights[s].back(), sums[s], tied[s], verdict));
  }
  return result;
}

}  // namespace support
