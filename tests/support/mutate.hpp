// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <support/program_set.hpp>

/// Single faults of a plan: one action, transfer, slot, version or place changed.
namespace support {

enum class mutation : int {
  swap_neighbours,  ///< two actions that follow one another
  swap_any,         ///< two actions of one rank
  drop,             ///< an action is missing
  duplicate,        ///< an action stands twice
  move,             ///< an action stands elsewhere in its rank's program
  move_to_rank,     ///< an action stands on another rank
  retarget_stage,
  retarget_micro_batch,
  retarget_kind,
  reorder_channel,  ///< two sends, posts or waits of one kind and stage, exchanged
  move_post,        ///< a receive posted at another time, the order of posts kept or not
  slot_depth,       ///< one ring of one stage deeper or less deep
  version,          ///< the version that an action reads or writes
  weight_buffers,   ///< a rank's number of weight copies
  placement,        ///< a stage on another rank
  count
};

inline char const* name_of(mutation m) {
  static constexpr std::array names{"swap neighbours",
                                    "swap any",
                                    "drop",
                                    "duplicate",
                                    "move",
                                    "move to rank",
                                    "retarget stage",
                                    "retarget micro-batch",
                                    "retarget kind",
                                    "reorder channel",
                                    "move post",
                                    "slot depth",
                                    "version",
                                    "weight buffers",
                                    "placement"};
  static_assert(names.size() == static_cast<std::size_t>(mutation::count));
  return names[static_cast<std::size_t>(m)];
}

/// A mutant, and in words what was done to it.
struct mutant {
  program_set programs;
  std::string change;
};

class mutator {
 public:
  explicit mutator(std::uint64_t seed) : random_{seed} {}

  /// A number in [0, n). The same everywhere, unlike the standard's distributions.
  int below(int n) { return static_cast<int>(random_() % static_cast<std::uint64_t>(n)); }

  /// Nothing where the plan has no place for such a fault, or the throw changed nothing.
  std::optional<mutant> operator()(mutation kind_of_fault, program_set const& sound) {
    using pipewright::kind;
    program_set p = sound;
    int const r = below(p.ranks());
    auto& row = p.programs[at(r)];
    if (row.size() < 2) return {};
    int const n = static_cast<int>(row.size()), i = below(n), j = below(n);
    auto const before = row[at(i)];
    std::string change =
        "rank " + std::to_string(r) + " position " + std::to_string(i) + " " + write_instruction(before) + ": ";
    switch (kind_of_fault) {
      case mutation::swap_neighbours:
        if (i + 1 == n) return {};
        std::swap(row[at(i)], row[at(i) + 1]);
        break;
      case mutation::swap_any:
        std::swap(row[at(i)], row[at(j)]);
        change += "with position " + std::to_string(j);
        break;
      case mutation::drop: row.erase(row.begin() + i); break;
      case mutation::duplicate:
        row.insert(row.begin() + j, before);
        change += "again at " + std::to_string(j);
        break;
      case mutation::move:
        row.erase(row.begin() + i);
        row.insert(row.begin() + std::min(j, n - 1), before);
        change += "to " + std::to_string(j);
        break;
      case mutation::move_to_rank: {
        if (p.ranks() < 2) return {};
        int const to = (r + 1 + below(p.ranks() - 1)) % p.ranks();
        auto& other = p.programs[at(to)];
        row.erase(row.begin() + i);
        other.insert(other.begin() + below(static_cast<int>(other.size()) + 1), before);
        change += "to rank " + std::to_string(to);
        break;
      }
      case mutation::retarget_stage: row[at(i)].what.stage = static_cast<std::uint16_t>(below(p.stages() + 1)); break;
      case mutation::retarget_micro_batch: row[at(i)].what.micro_batch = below(p.micro_batches() + 2) - 1; break;
      case mutation::retarget_kind:
        row[at(i)].what.what = static_cast<kind>(below(static_cast<int>(kind::reduce_gradient) + 1));
        break;
      case mutation::reorder_channel: {
        if (!pipewright::is_transfer(before.what.what)) return {};
        auto const& other = row[at(j)].what;
        if (other.what != before.what.what || other.stage != before.what.stage) return {};
        std::swap(row[at(i)], row[at(j)]);
        change += "with position " + std::to_string(j);
        break;
      }
      case mutation::move_post: {
        if (!pipewright::is_post(before.what.what)) return {};
        int const to = std::clamp(i + below(13) - 6, 0, n - 1);
        row.erase(row.begin() + i);
        row.insert(row.begin() + to, before);
        change += "to " + std::to_string(to);
        break;
      }
      case mutation::slot_depth: {
        using pipewright::slot_depths;
        static constexpr std::array<int slot_depths::*, 8> rings{
            &slot_depths::input,  &slot_depths::saved,           &slot_depths::recomputed,     &slot_depths::last_saved,
            &slot_depths::output, &slot_depths::output_gradient, &slot_depths::input_gradient, &slot_depths::gradients};
        int const s = below(p.stages()), ring = below(8);
        int& depth = p.slots[at(s)].*rings[at(ring)];
        int const was = depth;
        depth = std::max(0, depth + std::array{-1, -1, -2, 1, 2}[at(below(5))]);
        change = "stage " + std::to_string(s) + " ring " + std::to_string(ring) + ": " + std::to_string(depth) +
                 " slots instead of " + std::to_string(was);
        break;
      }
      case mutation::version: {
        if (!pipewright::is_compute(before.what.what) && before.what.what != kind::update) return {};
        int& version = row[at(i)].version;
        version = below(3) > 0 ? version + (below(2) > 0 ? 1 : -1) : below(p.updates() + 3) - 1;
        change += "version " + std::to_string(version);
        break;
      }
      case mutation::weight_buffers: {
        int& copies = p.weight_buffers[at(r)];
        change = "rank " + std::to_string(r) + ": weight copies " + std::to_string(copies) + " changed to ";
        copies = std::max(0, copies + std::array{-1, -1, -2, 1, 2}[at(below(5))]);
        change += std::to_string(copies);
        break;
      }
      case mutation::placement: {
        int const s = below(p.stages());
        p.rank_of_stage[at(s)] = below(p.ranks());
        change = "stage " + std::to_string(s) + " on rank " + std::to_string(p.rank_of_stage[at(s)]);
        break;
      }
      case mutation::count: return {};
    }
    if (p.programs == sound.programs && p.slots == sound.slots && p.weight_buffers == sound.weight_buffers &&
        p.rank_of_stage == sound.rank_of_stage)
      return {};
    return mutant{std::move(p), std::move(change)};
  }

 private:
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  std::mt19937_64 random_;
};

}  // namespace support
