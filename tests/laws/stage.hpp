// SPDX-License-Identifier: Apache-2.0
#pragma once
// What every stage promises, run on every model of the concept:
//
//   laws::check_stage(laws::example<my_stage>{.make = [] { return my_stage{}; }, .input = ..., .output_gradient = ...});
//   laws::check_stage(laws::example<my_loss>{.make = [] { return my_loss{}; }, .input = ..., .target = ...});
//
// Numbers inside boundaries are found in arithmetic types, ranges, optionals and tuples; for a type of your own, write
// for_each_number(your_type&, visit) in its namespace.

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/stage/parameters.hpp>
#include <pipewright/stage/stage.hpp>

namespace laws {

namespace pw = pipewright;

/// A stage with something to run it on. Small: every number is differentiated by.
template<class S> struct example {
  struct none {};
  using target_type = decltype([] {
    if constexpr (pw::loss_stage<S>) return typename S::target{};
    else return none{};
  }());
  using output_gradient_type = decltype([] {
    if constexpr (pw::loss_stage<S>) return none{};
    else return pw::output_gradient_t<S>{};
  }());

  std::function<S()> make;
  typename S::input input{};
  output_gradient_type output_gradient{};  ///< of a stage
  target_type target{};                    ///< of a loss stage
  pw::stage_context context{};
  double step = 1e-5;       ///< of the finite differences
  double tolerance = 1e-7;  ///< relative to the norm of the gradient, plus as much absolute
};

namespace detail {

template<class T, class Visit> void visit_numbers(T& value, Visit& visit) {
  if constexpr (std::is_arithmetic_v<T>) visit(value);
  else if constexpr (requires { for_each_number(value, visit); }) for_each_number(value, visit);
  else if constexpr (requires { std::begin(value); })
    for (auto& each : value) visit_numbers(each, visit);
  else if constexpr (requires {
                       value.has_value();
                       *value;
                     }) {
    if (value.has_value()) visit_numbers(*value, visit);
  } else if constexpr (requires { std::tuple_size<T>::value; })
    std::apply([&](auto&... each) { (visit_numbers(each, visit), ...); }, value);
  else static_assert(std::is_empty_v<T>, "write for_each_number(T&, visit) for this boundary type");
}

template<class T> void change_numbers(T& value, auto change) { visit_numbers(value, change); }

/// Every number of a value, in order.
template<class T> std::vector<double> numbers_of(T const& value) {
  std::vector<double> all;
  change_numbers(const_cast<T&>(value), [&](auto& number) { all.push_back(static_cast<double>(number)); });
  return all;
}

/// The floating-point numbers of a boundary or of parameters, by index.
template<class T> void each_number(T& value, auto visit) { change_numbers(value, visit); }
template<pw::visitable_parameters T> requires(!std::is_empty_v<T>) void each_number(T& parameters, auto visit) {
  parameters.for_each_parameter([&](std::string_view, auto values, pw::parameter_options) {
    for (auto& each : values) visit(each);
  });
}
template<class T> void add(T& value, std::size_t index, double amount) {
  each_number(value, [&]<class N>(N& number) {
    if constexpr (std::floating_point<N>)
      if (index-- == 0) number = static_cast<N>(static_cast<double>(number) + amount);
  });
}
template<class T> std::vector<double> floats_of(T& value) {
  std::vector<double> all;
  each_number(value, [&]<class N>(N& number) {
    if constexpr (std::floating_point<N>) all.push_back(static_cast<double>(number));
  });
  return all;
}

/// Equal to the last bit, signs of zero and all.
inline bool same_bits(std::vector<double> const& a, std::vector<double> const& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::bit_cast<std::uint64_t>(a[i]) != std::bit_cast<std::uint64_t>(b[i])) return false;
  return true;
}
inline double norm(std::vector<double> const& v) {
  double sum = 0;
  for (double each : v) sum += each * each;
  return std::sqrt(sum);
}
inline double distance(std::vector<double> a, std::vector<double> const& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return norm(a);
}

/// All that a micro-batch brought out of a stage.
struct results {
  std::vector<double> output, input_gradient, gradients;
};
inline bool same(results const& a, results const& b) {
  return same_bits(a.output, b.output) && same_bits(a.input_gradient, b.input_gradient) &&
         same_bits(a.gradients, b.gradients);
}

/// One micro-batch on a stage.
template<class S> class run : public results {
  static constexpr bool has_loss = pw::loss_stage<S>;

 public:
  run(example<S> const& of, S& on) : of_{of}, on_{on}, context_{of.context} {}

  run& forward(typename S::weights const& w, typename S::input const& x) {
    if constexpr (has_loss) {
      pw::loss const l = on_.forward(context_, w, x, of_.target, saved_);
      output = {l.value, l.weight};
    } else {
      on_.forward(context_, w, x, y_, saved_);
      output = numbers_of(y_);
    }
    return *this;
  }
  run& backward(typename S::weights const& w, typename S::gradients& g) {
    if constexpr (has_loss) on_.backward(context_, w, saved_, dx_, g);
    else on_.backward(context_, w, saved_, of_.output_gradient, dx_, g);
    return taken(g);
  }
  run& backward_in_halves(typename S::weights const& w, typename S::gradients& g) {
    if constexpr (has_loss) {
      on_.backward_input(context_, w, saved_, dx_);
      on_.backward_weight(context_, w, saved_, g);
    } else {
      on_.backward_input(context_, w, saved_, of_.output_gradient, dx_);
      on_.backward_weight(context_, w, saved_, of_.output_gradient, g);
    }
    return taken(g);
  }
  /// Fills the slots with other numbers, sizes as they are.
  run& spoil() {
    auto other = []<class N>(N& number) { number = static_cast<N>(77); };
    if constexpr (!has_loss) change_numbers(y_, other);
    change_numbers(dx_, other);
    return *this;
  }
  run& recomputing() {
    context_.recomputing = true;
    return *this;
  }
  run& on_micro_batch(int m) {
    context_.micro_batch = m;
    return *this;
  }
  /// What backward is the gradient of: the loss, or the output times the output gradient.
  double value() const {
    if constexpr (has_loss) return output[0];
    else {
      auto const dy = numbers_of(of_.output_gradient);
      double sum = 0;
      for (std::size_t i = 0; i < output.size(); ++i) sum += output[i] * dy[i];
      return sum;
    }
  }

 private:
  run& taken(typename S::gradients& g) {
    input_gradient = floats_of(dx_);
    gradients = floats_of(g);
    return *this;
  }
  struct no_output {};
  using slot = typename decltype([] {
    if constexpr (has_loss) return std::type_identity<no_output>{};
    else return std::type_identity<typename S::output>{};
  }())::type;

  example<S> const& of_;
  S& on_;
  pw::stage_context context_;
  slot y_{};
  pw::input_gradient_t<S> dx_{};
  typename S::saved saved_{};
};

}  // namespace detail

/// The promises of the concepts that the stage of the example breaks, each in a few words.
template<pw::any_kind_of_stage S> std::vector<std::string> broken_laws(example<S> const& of) {
  using detail::run;
  std::vector<std::string> broken;
  auto law = [&](char const* name, bool holds) {
    if (!holds && std::find(broken.begin(), broken.end(), name) == broken.end()) broken.push_back(name);
  };
  auto close = [&](std::vector<double> const& a, std::vector<double> const& b) {
    return a.size() == b.size() && detail::distance(a, b) <= of.tolerance * (1 + detail::norm(b));
  };
  S stage = of.make();
  typename S::weights w{};
  pw::initialize(stage, of.context, w);
  auto zero = [&] { return pw::make_gradients<S>(w); };
  auto whole = [&](S& on, typename S::input const& x) -> detail::results {
    auto g = zero();
    return run<S>(of, on).forward(w, x).backward(w, g);
  };
  auto const expected = whole(stage, of.input);
  auto const weights_before = detail::floats_of(w);
  typename S::input other = of.input;
  for (std::size_t i = 0, n = detail::floats_of(other).size(); i < n; ++i)
    detail::add(other, i, 0.125 * static_cast<double>(i % 3));

  {
    std::vector<std::pair<std::string, std::size_t>> names[2];
    auto note = [](auto& into) {
      return [&into](std::string_view name, auto values, pw::parameter_options) {
        into.emplace_back(name, values.size());
      };
    };
    w.for_each_parameter(note(names[0]));
    zero().for_each_parameter(note(names[1]));
    law("weights and gradients are visited in one order", names[0] == names[1]);
  }
  {
    auto difference = [&](auto&& changed_by) { return (changed_by(of.step) - changed_by(-of.step)) / (2 * of.step); };
    auto value = [&](typename S::weights const& with, typename S::input const& x) {
      S fresh = of.make();
      return run<S>(of, fresh).forward(with, x).value();
    };
    std::vector<double> by_input, by_weight;
    if constexpr (!std::same_as<pw::input_gradient_t<S>, pw::nothing>) {
      auto x = of.input;
      for (std::size_t i = 0, n = detail::floats_of(x).size(); i < n; ++i)
        by_input.push_back(difference([&](double h) {
          auto moved = of.input;
          detail::add(moved, i, h);
          return value(w, moved);
        }));
    }
    for (std::size_t i = 0; i < expected.gradients.size(); ++i)
      by_weight.push_back(difference([&](double h) {
        auto moved = w;
        detail::add(moved, i, h);
        return value(moved, of.input);
      }));
    law("the input gradient is the derivative of forward", close(expected.input_gradient, by_input));
    law("the weight gradients are the derivative of forward", close(expected.gradients, by_weight));
  }
  {
    run<S> used(of, stage);
    auto g = zero(), h = zero();
    used.forward(w, other).backward(w, g).spoil();
    law("outputs and input gradients are overwritten, whatever the slots hold",
        detail::same(used.forward(w, of.input).backward(w, h), expected));
  }
  {
    auto g = zero();
    run<S>(of, stage).forward(w, of.input).backward(w, g);
    auto doubled = expected.gradients;
    for (double& each : doubled) each *= 2;
    law("gradients are added to", close(run<S>(of, stage).forward(w, of.input).backward(w, g).gradients, doubled));
  }
  if constexpr (pw::split_backward_stage<S>) {
    auto g = zero();
    law("the halves of backward are the whole, bit for bit",
        detail::same(run<S>(of, stage).forward(w, of.input).backward_in_halves(w, g), expected));
  }
  if constexpr (pw::recomputable_stage<S>) {
    auto g = zero();
    run<S> again(of, stage);
    again.forward(w, other).forward(w, of.input).recomputing().forward(w, of.input);
    law("a forward run again saves what the first did", detail::same(again.backward(w, g), expected));
    run<S> later(of, stage);  // into other memory than the first
    run<S>(of, stage).forward(w, of.input);
    auto h = zero();
    law("a forward run again saves what the first did",
        detail::same(later.recomputing().forward(w, of.input).backward(w, h), expected));
  }
  {
    S fresh = of.make();
    law("the results are a function of the arguments", detail::same(whole(fresh, of.input), expected));
    whole(stage, other);
    law("the results are a function of the arguments", detail::same(whole(stage, of.input), expected));
  }
  {
    auto g = zero(), h = zero();
    run<S> first(of, stage), second(of, stage);
    first.forward(w, of.input);
    second.on_micro_batch(of.context.micro_batch + 1).forward(w, other);
    law("micro-batches in flight do not disturb one another", detail::same(first.backward(w, g), expected));
    second.backward(w, h);
  }
  law("weights are read only", detail::same_bits(detail::floats_of(w), weights_before));
  return broken;
}

/// Checks, with doctest, all that the concepts promise of the stage in the example.
template<pw::any_kind_of_stage S> void check_stage(example<S> const& of) {
  auto const broken = broken_laws(of);
  for (auto const& law : broken) FAIL_CHECK("a broken law: " << law);
  CHECK(broken.empty());
}

}  // namespace laws
