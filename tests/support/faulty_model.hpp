// SPDX-License-Identifier: Apache-2.0
#pragma once
// The scalar model with a fault in one place: a stage that throws, or one that never returns.

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <thread>

#include <support/scalar_model.hpp>

#include <pipewright/schedule/action.hpp>

namespace toys {

struct fault {
  enum kind_of_fault { none, throws, throws_a_number, never_returns };
  kind_of_fault what = none;
  pw::kind at = pw::kind::forward;  ///< forward, recompute or backward
  int stage = 0, micro_batch = 0;   ///< of the step
  std::int64_t step = 0;
  bool training = true;

  void strike(pw::kind now, pw::stage_context const& c) const {
    if (now == pw::kind::forward && c.recomputing) now = pw::kind::recompute;
    if (what == none || now != at || c.stage != stage || c.micro_batch != micro_batch || c.training != training) return;
    if (training && c.step != step) return;
    if (what == throws) throw std::runtime_error("the stage is out of order");
    if (what == throws_a_number) throw 7;
    for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
  }
};

template<class Stage> struct faulty : Stage {
  fault where;

  template<class... Rest> auto forward(pw::stage_context& context, Rest&&... rest) const {
    where.strike(pw::kind::forward, context);
    return Stage::forward(context, rest...);
  }
  template<class... Rest> void backward(pw::stage_context& context, Rest&&... rest) const {
    where.strike(pw::kind::backward, context);
    Stage::backward(context, rest...);
  }
};

struct faulty_model {
  std::vector<double> initial;
  fault where;

  using input = double;
  using last = faulty<half_square>;
  int size() const { return static_cast<int>(initial.size()); }
  void visit(int index, auto&& f) const {
    double const w = initial[static_cast<std::size_t>(index)];
    if (index + 1 == size()) f(faulty<half_square>{{w}, where});
    else f(faulty<scaling>{{w}, where});
  }
};

}  // namespace toys
