// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the benchmarks share: stages that do nothing or only take time, batches of nothing, medians.

#include <algorithm>
#include <ctime>
#include <string_view>
#include <vector>

#include <pipewright/pipeline/pipeline.hpp>

namespace benchmarks {

namespace pw = pipewright;

inline constexpr std::string_view training_schedules[] = {"sequential", "gpipe",      "flush", "interleaved",
                                                          "1f1b",       "1f1b-vsync", "2bw"};

/// A boundary of one number, and stages of one type whose two functions do `Work{}.forward()` and `Work{}.backward()`.
struct nothing_to_do {
  void forward() const {}
  void backward() const {}
};
template<class Work> struct stage_of {
  using input = float;
  using output = float;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = pw::nothing;
  Work work;
  void forward(auto&, weights const&, input const&, output&, saved&) const { work.forward(); }
  void backward(auto&, weights const&, saved&, output const&, input&, gradients&) const { work.backward(); }
};
template<class Work> struct loss_of {
  using input = float;
  using target = float;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = pw::nothing;
  Work work;
  pw::loss forward(auto&, weights const&, input const&, target const&, saved&) const {
    return work.forward(), pw::loss{};
  }
  void backward(auto&, weights const&, saved&, input&, gradients&) const { work.backward(); }
};
template<class Work> struct stages_of {
  int number;
  Work work{};
  using input = float;
  using last = loss_of<Work>;
  int size() const { return number; }
  void visit(int index, auto&& use) const {
    if (index + 1 == number) use(loss_of<Work>{work});
    else use(stage_of<Work>{work});
  }
};
static_assert(pw::stage_set<stages_of<nothing_to_do>>);

struct empty_batch {
  void input(int, float&) const {}
  void target(int, float&) const {}
};

inline double median(std::vector<double> values) {
  auto const middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace benchmarks
