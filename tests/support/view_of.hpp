// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <support/program_set.hpp>

#include <pipewright/plan/plan_view.hpp>

namespace support {

/// A program_set in the library's own form, to hand to the library.
class viewable {
 public:
  explicit viewable(program_set const& p) : p_{p}, rows_(p.ranks(), total(p)) {
    std::size_t at = 0;
    for (std::size_t r = 0; r < p.programs.size(); ++r) {
      for (auto const i : p.programs[r]) rows_.items[at++] = i;
      rows_.first[r + 1] = at;
    }
  }
  pipewright::plan_view view() const {
    pipewright::plan_view v;
    v.schedule = "by hand";
    v.facts = p_.facts;
    v.weights = p_.weights;
    v.backward = p_.backward;
    v.wants = p_.wants;
    v.programs = rows_.view();
    v.rank_of_stage = p_.rank_of_stage.data();
    v.slots = p_.slots.data();
    v.weight_buffers = p_.weight_buffers.data();
    return v;
  }

 private:
  static std::size_t total(program_set const& p) {
    std::size_t result = 0;
    for (auto const& row : p.programs) result += row.size();
    return result;
  }
  program_set const& p_;
  pipewright::rows<pipewright::instruction> rows_;
};

}  // namespace support
