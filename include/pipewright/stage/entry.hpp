// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <boost/hana/at.hpp>
#include <boost/hana/tuple.hpp>

#include <pipewright/error.hpp>
#include <pipewright/stage/explain.hpp>
#include <pipewright/stage/fit.hpp>
#include <pipewright/stage/layers.hpp>

namespace pipewright::inline v0 {

/// n entries of a list made by one factory, n known at run time. Made by repeated().
template<class Factory> struct repetition {
  Factory make;
  int count;
};
/// The same with n part of the type. Made by repeated<N>().
template<int N, class Factory> struct constant_repetition {
  static_assert(N >= 1, "pipewright: repeated<N>(factory) needs N >= 1; leave the entry out instead");
  Factory make;
};

/// n stages or layers of one type, made by factory() or factory(i), i from 0; an entry of stages(...) or of a model.
/// Throws error where n < 1.
template<class Factory> constexpr repetition<Factory> repeated(Factory factory, int n) {
  if (n < 1)
    throw error("pipewright: repeated: a repetition has at least 1 entry, not " + std::to_string(n) +
                "; leave it out instead");
  return {std::move(factory), n};
}
template<int N, class Factory> constexpr constant_repetition<N, Factory> repeated(Factory factory) {
  return {std::move(factory)};
}
/// Stages or layers of one type (any_stage, say), each made by a factory of its own.
template<std::copy_constructible Factory>
requires std::invocable<Factory const&> auto repeated(std::vector<Factory> factories) {
  int const n = static_cast<int>(factories.size());
  return repeated([factories = std::move(factories)](int i) { return factories[static_cast<std::size_t>(i)](); }, n);
}

namespace detail {

/// What an entry of a list of stages or layers is: a stage, a callable that returns one, or a repetition of such.
template<class T> struct entry {
  static constexpr bool valid = [] {
    if constexpr (requires { typename T::weights; } || requires { typename T::input; }) return explain_stage<T>();
    else
      static_assert(sizeof(T) == 0,
                    "pipewright: an entry of a list of stages or layers is a stage, a callable that "
                    "returns one, or repeated(factory, n)");
    return false;
  }();
};

template<class T>
requires any_kind_of_stage<T> struct entry<T> {
  using made = T;
  static constexpr bool valid = true, repeats = false;
  static constexpr int constant_count = 1;
  static constexpr int count(T const&) { return 1; }
  static constexpr int layers(T const& stage) { return layers_of(stage); }
  static T make(T const& stage, int) { return stage; }
};

template<class Factory> struct factory_result {
  using type = void;
};
template<class Factory>
requires std::invocable<Factory const&> struct factory_result<Factory> {
  using type = std::remove_cvref_t<std::invoke_result_t<Factory const&>>;
};
template<class Factory>
requires(!std::invocable<Factory const&> && std::invocable<Factory const&, int>) struct factory_result<Factory> {
  using type = std::remove_cvref_t<std::invoke_result_t<Factory const&, int>>;
};

/// Entries whose stage is made when a rank asks for it.
template<class Factory> struct made_entry {
  using made = typename factory_result<Factory>::type;
  static constexpr bool valid = [] {
    if constexpr (std::is_void_v<made>) {
      static_assert(!std::is_void_v<made>,
                    "pipewright: the factory of repeated(factory, n) is called as factory() or as "
                    "factory(i) with an int, and returns a stage");
      return false;
    } else return explain_stage<made>();
  }();
  /// How many layers one of them is. Where only the stage itself could say, it is one, and make() checks that.
  static constexpr int layers_of_each() {
    if constexpr (layers_known<made>) return layers_of<made>();
    else return 1;
  }
  static made make(Factory const& factory, int i) {
    auto stage = [&]() -> made {
      if constexpr (std::invocable<Factory const&>) return factory();
      else return factory(i);
    }();
    if (int const n = layers_of(stage); n != layers_of_each())
      throw error("pipewright: a factory made a stage of " + std::to_string(n) +
                  " layers, a number that its type does not tell, so that "
                  "the layers after it cannot be numbered; put the layers into the list one by one, or as "
                  "repeated(factory, n)");
    return stage;
  }
};

template<class T>
requires(!any_kind_of_stage<T> && std::invocable<T const&>) struct entry<T> : made_entry<T> {
  static constexpr bool repeats = false;
  static constexpr int constant_count = 1;
  static constexpr int count(T const&) { return 1; }
  static constexpr int layers(T const&) { return made_entry<T>::layers_of_each(); }
};

template<class F> struct entry<repetition<F>> : made_entry<F> {
  static constexpr bool repeats = true;
  static constexpr int constant_count = -1;  // known at run time
  static constexpr int count(repetition<F> const& r) { return r.count; }
  static constexpr int layers(repetition<F> const& r) { return r.count * made_entry<F>::layers_of_each(); }
  static auto make(repetition<F> const& r, int i) { return made_entry<F>::make(r.make, i); }
};

template<int N, class F> struct entry<constant_repetition<N, F>> : made_entry<F> {
  static constexpr bool repeats = true;
  static constexpr int constant_count = N;
  static constexpr int count(constant_repetition<N, F> const&) { return N; }
  static constexpr int layers(constant_repetition<N, F> const&) { return N * made_entry<F>::layers_of_each(); }
  static auto make(constant_repetition<N, F> const& r, int i) { return made_entry<F>::make(r.make, i); }
};

template<std::size_t I, class... Entries> using entry_at = entry<std::tuple_element_t<I, std::tuple<Entries...>>>;

/// Whether every entry of a list makes stages, each of which takes what the one before gives; explained where not.
template<class... Entries> consteval bool explain_entries() {
  static_assert(sizeof...(Entries) > 0, "pipewright: a model has at least one stage");
  if constexpr (sizeof...(Entries) == 0) return false;
  else if constexpr (!(entry<Entries>::valid && ...)) return false;
  else
    return []<std::size_t... I>(std::index_sequence<I...>) {
      constexpr auto fits = []<std::size_t At>(std::integral_constant<std::size_t, At>) {
        using here = entry_at<At, Entries...>;
        bool ok = true;
        if constexpr (here::repeats && here::constant_count != 1)
          ok = explain_fit<typename here::made, static_cast<int>(At), typename here::made, static_cast<int>(At)>();
        if constexpr (At + 1 < sizeof...(Entries))
          ok = ok &&
               explain_fit<typename here::made, static_cast<int>(At), typename entry_at<At + 1, Entries...>::made>();
        return ok;
      };
      return (fits(std::integral_constant<std::size_t, I>{}) && ...);
    }(std::index_sequence_for<Entries...>{});
}

}  // namespace detail

}  // namespace pipewright::inline v0
