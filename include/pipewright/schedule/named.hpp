// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <type_traits>

#include <pipewright/schedule/flush.hpp>
#include <pipewright/schedule/forward_only.hpp>
#include <pipewright/schedule/gpipe.hpp>
#include <pipewright/schedule/interleaved.hpp>
#include <pipewright/schedule/one_f_one_b.hpp>
#include <pipewright/schedule/sequential.hpp>
#include <pipewright/schedule/two_buffered.hpp>

namespace pipewright::inline v0 {

/// A few types, as a value.
template<class... Policies> struct schedule_list {};

/// Every schedule of the library, `interleaved` with its chunks in the shape.
using all_schedules = schedule_list<sequential, gpipe, one_f_one_b, one_f_one_b_vertical_sync, two_buffered, flush,
                                    interleaved<>, forward_only>;

/// Calls visit(std::type_identity<Policy>{}) for each schedule of the list.
template<class... Policies> constexpr void for_each_schedule(schedule_list<Policies...>, auto&& visit) {
  (visit(std::type_identity<Policies>{}), ...);
}

/// Calls visit(std::type_identity<Policy>{}) for the schedule of that name; false if the library has none.
constexpr bool visit_schedule(std::string_view name, auto&& visit) {
  bool found = false;
  for_each_schedule(all_schedules{}, [&](auto policy) {
    if (decltype(policy)::type::name != name) return;
    found = true;
    visit(policy);
  });
  return found;
}

}  // namespace pipewright::inline v0
