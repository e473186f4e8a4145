// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include <pipewright/plan/lower.hpp>
#include <pipewright/plan/memory.hpp>
#include <pipewright/schedule/named.hpp>
#include <support/program_set.hpp>

namespace support {

template<class P> program_set sound_programs(pipewright::shape s, pipewright::needs wants = {}) {
  s = pipewright::complete<P>(s);
  auto o = pipewright::orders_of<P>(s);
  auto pl = pipewright::placement_of<P>(s);
  auto met = pipewright::meet(o.view(), s, pl.data(), P::backward);
  pipewright::plan_view facts{P::name, s, P::weights, P::backward, wants, {}, pl.data(), nullptr, nullptr, nullptr, 0, 0};
  auto prog = pipewright::lower(o.view(), std::move(met), facts);
  facts.programs = prog.view();
  auto slots = pipewright::plan_slots(facts);
  facts.slots = slots.data();
  std::vector<int> wb;
  for (int r = 0; r < s.ranks; r++) wb.push_back(pipewright::version_bound(P::weights, s, r));
  facts.weight_buffers = wb.data();
  return copy_of(facts);
}

}  // namespace support
