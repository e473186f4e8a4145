// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/schedule/policy.hpp>

namespace pipewright::inline v0 {

/// The schedule of a profile: a micro-batch goes down all stages and back up before the next starts, any number of chunks a
/// rank. On one rank with a layer a stage, each layer's actions stand alone. Any P, M, V. In flight 1 of each stage. One weight version.
template<backward_form Form> struct layer_by_layer : schedule_defaults {
  static_assert(Form != backward_form::none, "pipewright: layer_by_layer trains; choose full or split");

  static constexpr std::string_view name = "layer-by-layer";
  static constexpr backward_form backward = Form;

  static constexpr shape_fault check(shape) { return {}; }

  static constexpr void order(shape s, int rank, auto&& emit) {
    for (int m = 0; m < s.micro_batches; ++m) {
      for (int chunk = 0; chunk < s.chunks; ++chunk) emit(forward(chunk * s.ranks + rank, m));
      for (int stage = (s.chunks - 1) * s.ranks + rank; stage >= 0; stage -= s.ranks) {
        if constexpr (Form == backward_form::full) {
          emit(pipewright::backward(stage, m));
        } else {
          emit(backward_input(stage, m));
          emit(backward_weight(stage, m));
        }
      }
    }
  }
};
static_assert(schedule_policy<layer_by_layer<backward_form::full>>);
static_assert(schedule_policy<layer_by_layer<backward_form::split>>);

}  // namespace pipewright::inline v0
