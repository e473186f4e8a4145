// SPDX-License-Identifier: Apache-2.0
// What an optimizer and an observer are and are not; engine and oracle over several kinds of stage sets; compiling is passing.
// Includes the core as a whole: nothing of it may stop another compiler, nvcc in a .cu file included.
#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include <support/scalar_model.hpp>

#include <pipewright/pipewright.hpp>

namespace pw = pipewright;

// optimizers
static_assert(pw::optimizer<pw::sgd> && pw::optimizer<pw::adam> && std::same_as<decltype(pw::adamw(0.1)), pw::adam>);
struct stateless {
  static constexpr std::size_t states = 0;
  template<class T>
  void update(pw::optimizer_step step, pw::parameter_options, std::span<T const> newest, std::span<T const> gradient,
              std::span<T> fresh, std::array<std::span<T>, 0>) const {
    for (std::size_t i = 0; i < fresh.size(); ++i)
      fresh[i] = newest[i] - static_cast<T>(step.gradient_scale) * gradient[i];
  }
};
static_assert(pw::optimizer<stateless>);
struct says_no_states : stateless {
  void states() = delete;
};
struct updates_in_place : pw::sgd {
  void update(pw::optimizer_step, std::span<float>, std::span<float const>) const;
};
static_assert(!pw::optimizer<says_no_states> && !pw::optimizer<updates_in_place> && !pw::optimizer<int>);
struct counts_itself : stateless {  // a function of its arguments: not of how often it was called
  template<class T>
  void update(pw::optimizer_step, pw::parameter_options, std::span<T const>, std::span<T const>, std::span<T>,
              std::array<std::span<T>, 0>);
};
static_assert(!pw::optimizer<counts_itself>);

// learning rates come from plain numbers
static_assert(std::convertible_to<double, pw::learning_rate> && pw::sgd{.rate = 0.5}.rate.peak == 0.5);

// observers
struct counts {
  int events = 0;
  void before(pw::event) { ++events; }
  void after(pw::event) {}
};
struct hears_the_end_only {
  void after(pw::event) {}
};
static_assert(pw::observer<pw::no_observer> && pw::observer<counts> && !pw::observer<hears_the_end_only> &&
              !pw::observer<int>);
static_assert(std::is_empty_v<pw::no_observer>);

// an engine belongs to its rank, and stays where it is: transfers know its slots
using engine = pw::pipeline_of<toys::scalar_model, pw::in_process::endpoint, pw::adam>;
static_assert(!std::copy_constructible<engine> && !std::movable<engine>);
static_assert(std::movable<pw::serial_oracle<toys::scalar_model, pw::adam>>);

// every way in: constant plan and start-up plan, a set, a Hana tuple, a constant batch and one that goes away, an observer
constexpr auto flush_plan = pw::plan<pw::flush, pw::shape{.ranks = 2, .micro_batches = 2}>;
double every_way_in(pw::in_process::endpoint& here) {
  toys::scalar_batch const fixed{{1, 2}};
  counts seen;
  auto set = pw::stages(toys::scaling{}, toys::half_square{});
  auto first = pw::pipeline(flush_plan.view(), set, here, pw::sgd{.rate = 0.1});
  auto const start_up = pw::make_plan("1f1b", {.ranks = 2, .micro_batches = 2});
  auto second = pw::pipeline(start_up, boost::hana::make_tuple(toys::scaling{}, toys::half_square{}), here, stateless{},
                             {.seed = 1}, seen);
  second.begin(fixed);
  while (second.advance() == pw::progress::ran) {}
  second.drain();
  first.template for_each_parameter<double>([](int, std::string_view, std::span<double>, pw::parameter_options) {});
  pw::serial_oracle oracle(set, pw::weight_rule::synchronous, {.ranks = 2, .micro_batches = 2, .chunks = 1},
                           stateless{});
  return first.step(fixed).loss + first.step(toys::scalar_batch{{1, 2}}).loss + first.evaluate(fixed).loss +
         oracle.step(fixed).loss + oracle.evaluate(fixed).loss + static_cast<double>(first.bytes_sent()) + seen.events;
}
