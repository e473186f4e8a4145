// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/schedule/rows.hpp>

namespace pipewright::inline v0 {

/// Layers [first, last) on `replicas` devices, which share the micro-batches.
struct replicated_stage {
  int first, last, replicas;
  friend constexpr bool operator==(replicated_stage const&, replicated_stage const&) = default;
};

/// What PipeDream's profile says of a model (Narayanan et al., SOSP 2019, section 3.1).
struct replica_costs {
  std::vector<double> work;        ///< by layer: forward and backward of a micro-batch, in seconds
  std::vector<double> parameters;  ///< by layer, in bytes
  std::vector<double> crossing;    ///< by boundary: the bytes that pass it forward, and again backward
  double bandwidth;                ///< of every link, in bytes a second
};

/// A cut with replicas. Not runnable yet: the engine has no replicas, and nothing emits such a plan.
struct replicated_cut {
  std::vector<replicated_stage> stages;
  double dearest;  ///< seconds for each micro-batch of the dearest stage or boundary
};

namespace detail {

/// T(first..last, m) of the paper's flat form: (1/m) max(work, all-reduce of the weights), the latter 2 (m - 1) |w| / B.
constexpr double replicated_time(double work, double parameters, int replicas, double bandwidth) {
  return std::max(work, 2. * (replicas - 1) * parameters / bandwidth) / replicas;
}

}  // namespace detail

/// PipeDream's partitioner, as its paper states it for one level of links: which layers make a stage and how many of
/// exactly `devices` devices run it, so that the dearest stage or boundary (2 a / B) is as cheap as can be:
///   A(j, m) = min( T(0..j, m), min over i < j, m' < m of max( A(i, m - m'), 2 a_i / B, T(i..j, m') ) ).
/// (The code that the authors released differs: it counts another all-reduce and, by default, no boundary.) Of equal ones the one
/// with the shortest last stage, then with the fewest replicas of it. O(n^2 devices^2). Throws error for costs that are none.
constexpr replicated_cut cut_with_replicas(replica_costs const& of, int devices) {
  int const layers = static_cast<int>(of.work.size());
  auto const refuse = [](char const* what) { throw error(std::string("a chain cannot be cut: ") + what); };
  if (layers < 1 || devices < 1) refuse("there is at least one layer and one device");
  if (of.parameters.size() != of.work.size()) refuse("`parameters` has one value for each layer");
  if (of.crossing.size() + 1 != of.work.size())
    refuse("`crossing` has one value for each boundary, one less than there are layers");
  if (!(of.bandwidth > 0)) refuse("`bandwidth` is more than 0 bytes a second");
  for (auto const* each : {&of.work, &of.parameters, &of.crossing})
    for (double const x : *each)
      if (!(x >= 0)) refuse("work, parameters and crossings are numbers that are not negative");

  struct choice {
    double dearest = std::numeric_limits<double>::infinity();
    int first = 0, replicas = 0;  // of the last stage
  };
  auto const row = static_cast<std::size_t>(devices) + 1;
  block<choice> best((static_cast<std::size_t>(layers) + 1) * row);
  auto const at = [&](int j, int m) -> choice& {
    return best[static_cast<std::size_t>(j) * row + static_cast<std::size_t>(m)];
  };
  for (int j = 1; j <= layers; ++j) {
    double work = 0, parameters = 0;
    for (int i = j - 1; i >= 0; --i) {  // the last stage is [i, j)
      work += of.work[static_cast<std::size_t>(i)];
      parameters += of.parameters[static_cast<std::size_t>(i)];
      double const crossing = i == 0 ? 0 : 2 * of.crossing[static_cast<std::size_t>(i) - 1] / of.bandwidth;
      for (int m = 1; m <= devices; ++m)
        for (int replicas = i == 0 ? m : 1; replicas <= (i == 0 ? m : m - 1); ++replicas) {
          double const here = detail::replicated_time(work, parameters, replicas, of.bandwidth);
          double const all = i == 0 ? here : std::max({at(i, m - replicas).dearest, crossing, here});
          if (all < at(j, m).dearest) at(j, m) = {all, i, replicas};
        }
    }
  }
  replicated_cut found{{}, at(layers, devices).dearest};
  if (found.dearest == std::numeric_limits<double>::infinity()) refuse("its numbers are too large to add up");
  for (int j = layers, m = devices; j > 0;) {
    auto const [dearest, first, replicas] = at(j, m);
    found.stages.insert(found.stages.begin(), {first, j, replicas});
    j = first;
    m -= replicas;
  }
  return found;
}

}  // namespace pipewright::inline v0
