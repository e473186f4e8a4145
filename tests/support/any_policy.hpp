// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

#include <support/more_schedules.hpp>
#include <support/orders.hpp>

namespace support {

/// A schedule as a value: tests go through many of them, and a loop over values compiles once.
struct any_policy {
  std::string_view name;
  pipewright::weight_rule weights;
  pipewright::backward_form backward;
  pipewright::shape (*complete)(pipewright::shape);
  pipewright::shape_fault (*check)(pipewright::shape);  ///< of a complete shape
  support::orders (*orders)(pipewright::shape);
  int (*rank_of)(pipewright::shape, int stage);

  bool trains() const { return backward != pipewright::backward_form::none; }
  bool streams() const { return pipewright::is_stream(weights); }
  std::vector<int> placement(pipewright::shape s) const {
    std::vector<int> result;
    for (int stage = 0; stage < s.stages(); ++stage) result.push_back(rank_of(s, stage));
    return result;
  }
};

template<class P> constexpr any_policy policy_of{
    P::name,   P::weights, P::backward, pipewright::complete<P>, pipewright::check_shape<P>, support::orders_of<P>,
    P::rank_of};

}  // namespace support
