// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

#include <pipewright/stage/explain_needs.hpp>
#include <pipewright/stage/stage_set.hpp>

namespace pipewright::inline v0::detail {

/// A user's batch, whose type is forgotten: what the first stage reads and what the loss is taken against. It outlives the use.
template<stage_set Set> class batch_source {
 public:
  batch_source() = default;
  template<class Batch> explicit batch_source(Batch& batch) {
    if constexpr (explain_batch<Batch, Set>()) {
      batch_ = const_cast<std::remove_const_t<Batch>*>(&batch);
      input_ = [](void* b, int m, void* slot) {
        static_cast<Batch*>(b)->input(m, *static_cast<typename Set::input*>(slot));
      };
      target_ = [](void* b, int m, void* slot) {
        if constexpr (requires { typename Set::last::target; })
          static_cast<Batch*>(b)->target(m, *static_cast<typename Set::last::target*>(slot));
      };
    }
  }
  /// Of the batch's micro-batch m, into a slot of that type.
  void input(int m, void* slot) const { input_(batch_, m, slot); }
  void target(int m, void* slot) const { target_(batch_, m, slot); }

 private:
  void* batch_ = nullptr;
  void (*input_)(void*, int, void*) = nullptr;
  void (*target_)(void*, int, void*) = nullptr;
};

}  // namespace pipewright::inline v0::detail
