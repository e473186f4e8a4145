// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace pipewright::inline v0::detail {

/// The value that a share of the others is below; 0 of none.
inline double quantile(std::vector<double> of, double share) {
  if (of.empty()) return 0;
  auto const at = of.begin() + std::lround(share * static_cast<double>(of.size() - 1));
  std::nth_element(of.begin(), at, of.end());
  return *at;
}
inline double median(std::vector<double> const& of) { return quantile(of, 0.5); }

}  // namespace pipewright::inline v0::detail
