// SPDX-License-Identifier: Apache-2.0
// Ranks that are processes which meet over Gloo, as a launcher places them.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include <pipewright/gloo/link.hpp>
#include <pipewright/launch/place.hpp>

#include "processes.hpp"

namespace trainer {

/// They come together where they run, and not before: what cannot be read or planned is then said by each on its own.
class gloo_processes final : public processes {
 public:
  explicit gloo_processes(pw::launch::place here) : here_{std::move(here)} {}
  int rank() const override { return here_.rank; }
  /// As launchers number them, machine by machine.
  std::vector<int> ranks_here(int) const override {
    if (!here_.local_rank || !here_.local_size || *here_.local_rank > here_.rank) return {here_.rank};
    int const first = here_.rank - *here_.local_rank;
    return ranks_from(first, std::min(*here_.local_size, here_.size - first));
  }
  std::vector<share> run(request const& r, pw::plan_view, part const& part_of) const override {
    // Programs take their time to start, whatever the deadline of those that run.
    pw::gloo::link over(pw::gloo::store_of(here_, std::max(60., r.deadline)), here_.rank, here_.size, here_.address,
                        r.deadline);
    return run_over(over, r, part_of);
  }

 private:
  pw::launch::place here_;
};

}  // namespace trainer
