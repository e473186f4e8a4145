// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include <pipewright/error.hpp>

namespace pipewright::inline v0 {

namespace detail {

/// Ends runs of neighbours where `join(cost of the runs before, cost of a run)`, over all runs, is least; `before` are the
/// sums of the first 0, 1, ... costs. Dynamic programming, cubic; infinity is a run that may not be.
inline std::vector<int> cheapest_runs(std::vector<double> const& before, int stages, auto join) {
  std::size_t const n = before.size() - 1, s = static_cast<std::size_t>(stages), row = n + 1;
  std::vector<double> best((s + 1) * row, std::numeric_limits<double>::infinity());
  std::vector<int> last((s + 1) * row);  // the size of the last run, where k runs of the first `end` costs are best
  best[0] = 0;
  for (std::size_t k = 1; k <= s; ++k)
    for (std::size_t end = k; end <= n; ++end)
      for (std::size_t begin = k - 1; begin < end; ++begin) {
        double const all = join(best[(k - 1) * row + begin], before[end] - before[begin]);
        if (!(all < best[k * row + end])) continue;
        best[k * row + end] = all;
        last[k * row + end] = static_cast<int>(end - begin);
      }
  std::vector<int> sizes(s);
  for (std::size_t k = s, end = n; k > 0; --k) {
    sizes[k - 1] = last[k * row + end];
    end -= static_cast<std::size_t>(sizes[k - 1]);
  }
  return sizes;
}

}  // namespace detail

/// How many layers each stage gets, for balance(model, sizes), so that the dearest stage is as cheap as can be; among those
/// cuts, the most even one. `costs` are the layers', 0 or more, in any unit. Throws error where there are fewer layers than stages.
inline std::vector<int> balanced_sizes(std::vector<double> const& costs, int stages) {
  if (stages < 1 || static_cast<std::size_t>(stages) > costs.size())
    throw error(std::to_string(stages) + " stages cannot be made of " + std::to_string(costs.size()) +
                " layers; choose fewer ranks or chunks, or a model with more layers");
  std::vector<double> before{0};
  for (double const each : costs) before.push_back(before.back() + each);
  double dearest = 0;  // of the differences that the second search compares with it, to the last bit
  for (std::size_t at = 0; int const size : detail::cheapest_runs(
                               before, stages, [](double all, double run) { return std::max(all, run); })) {
    dearest = std::max(dearest, before[at + static_cast<std::size_t>(size)] - before[at]);
    at += static_cast<std::size_t>(size);
  }
  return detail::cheapest_runs(before, stages, [dearest](double all, double run) {
    return run > dearest ? std::numeric_limits<double>::infinity() : all + run * run;
  });
}

}  // namespace pipewright::inline v0
