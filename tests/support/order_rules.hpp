// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include <support/orders.hpp>

/// The orders of the field as their own sources state them, each restated here from its rule and not from the
/// library's code.
namespace support {

/// DeepSpeed's parity rule: at step t of 2(M+P-1), stage s runs forward iff t and s have equal parity.
inline order deepspeed_one_forward_one_backward(int ranks, int micro_batches, int stage) {
  order result;
  auto floor_half = [](int x) { return x >= 0 ? x / 2 : -((1 - x) / 2); };
  for (int t = 0; t < 2 * (micro_batches + ranks - 1); ++t) {
    bool const even_step = t % 2 == 0, even_stage = stage % 2 == 0;
    bool const runs_forward = even_step == even_stage;
    int const m = runs_forward ? floor_half(t) - floor_half(stage)
                  : even_step  ? t / 2 - ranks + (stage + 1) / 2
                               : floor_half(t - 1) - ranks + 1 + stage / 2;
    if (m < 0 || m >= micro_batches) continue;
    result.push_back(runs_forward ? pipewright::forward(stage, m) : pipewright::backward(stage, m));
  }
  return result;
}

/// Megatron's phases: P-r-1 warm-up forwards, then pairs of a forward and a backward, then the backwards that are left.
inline order megatron_one_forward_one_backward(int ranks, int micro_batches, int rank) {
  order result;
  int const warm_up = std::min(ranks - rank - 1, micro_batches);
  int f = 0, b = 0;
  while (f < warm_up) result.push_back(pipewright::forward(rank, f++));
  while (f < micro_batches) {
    result.push_back(pipewright::forward(rank, f++));
    result.push_back(pipewright::backward(rank, b++));
  }
  while (b < micro_batches) result.push_back(pipewright::backward(rank, b++));
  return result;
}

/// Megatron's interleaving: a table of (micro-batch, chunk), group by group, that forwards follow, and backwards with
/// the chunks turned round.
inline order megatron_interleaved(int ranks, int micro_batches, int chunks, int group, int rank) {
  std::vector<std::pair<int, int>> table;
  for (int first = 0; first < micro_batches; first += group)
    for (int chunk = 0; chunk < chunks; ++chunk)
      for (int m = first; m < std::min(first + group, micro_batches); ++m) table.emplace_back(m, chunk);
  order result;
  std::size_t f = 0, b = 0;
  auto run_forward = [&] {
    auto const [m, chunk] = table[f++];
    result.push_back(pipewright::forward(chunk * ranks + rank, m));
  };
  auto run_backward = [&] {
    auto const [m, chunk] = table[b++];
    result.push_back(pipewright::backward((chunks - 1 - chunk) * ranks + rank, m));
  };
  auto const warm_up = std::min(static_cast<std::size_t>((chunks - 1) * group + 2 * (ranks - rank - 1)), table.size());
  while (f < warm_up) run_forward();
  while (f < table.size()) run_forward(), run_backward();
  while (b < table.size()) run_backward();
  return result;
}

/// PyTorch's interleaving: the local stage from the step, the micro-batch from a counter per stage.
inline order pytorch_interleaved(int ranks, int micro_batches, int chunks, int per_round, int rank) {
  order result;
  std::map<int, int> next_forward, next_backward;
  int const total = micro_batches * chunks;
  int const warm_up = std::min((chunks - 1) * per_round + 2 * (ranks - 1 - rank), total);
  auto run_forward = [&](int step) {
    int const stage = step / per_round % chunks * ranks + rank;
    result.push_back(pipewright::forward(stage, next_forward[stage]++));
  };
  auto run_backward = [&](int step) {
    int const stage = (chunks - 1 - (step - warm_up) / per_round % chunks) * ranks + rank;
    result.push_back(pipewright::backward(stage, next_backward[stage]++));
  };
  for (int step = 0; step < warm_up + total; ++step) {
    if (step < total) run_forward(step);
    if (step >= warm_up) run_backward(step);
  }
  return result;
}

/// Whether PyTorch takes a number of micro-batches for interleaving, and how many it runs a round.
inline int pytorch_group(int ranks, int micro_batches) {
  int const rounds = std::max(1, micro_batches / ranks);
  return micro_batches % rounds == 0 ? micro_batches / rounds : 0;
}

}  // namespace support
