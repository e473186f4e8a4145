// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

#include <boost/hana/at.hpp>
#include <boost/hana/tuple.hpp>
#include <boost/hana/type.hpp>
#include <boost/hana/unpack.hpp>

#include <pipewright/error.hpp>
#include <pipewright/stage/entry.hpp>
#include <pipewright/stage/recompute.hpp>

namespace pipewright::inline v0 {

namespace detail {
struct stage_visitor {
  void operator()(auto&&) const {}
};
}  // namespace detail

/// A recipe for the stages of a pipeline, not a heap of instances: a rank builds its own and no others.
/// Needs: (1) `int size() const`, the number of stages S; (2) `void visit(int index, f) const`, which builds the stage of
/// that global index and calls f with it as an rvalue; (3) the types `input`, what the first stage takes of a batch, and
/// `last`, the last stage.
/// Promises: visit builds no other stage; two visits build two independent stages; neighbours fit. A stage that has a
/// member `first_layer` stands there in the model (see stage_context::layer), others are one layer each.
/// Not required: that indices have different types, or that size is constant. Minimal model: what stages(...) returns.
template<class T>
concept stage_set = requires(T const set, int index, detail::stage_visitor visit) {
  typename T::input;
  typename T::last;
  { set.size() } -> std::same_as<int>;
  set.visit(index, visit);
};

/// A list whose entries did not pass; the compiler has said why.
struct not_a_stage_set {};

/// The stages of a list, one for each entry and as many for a repetition as it says. Made by stages().
template<class... Entries> class listed_stages {
  template<std::size_t I> using entry = detail::entry_at<I, Entries...>;

 public:
  using input = typename entry<0>::made::input;               ///< of the first stage: what a batch gives
  using last = typename entry<sizeof...(Entries) - 1>::made;  ///< the last stage
  /// The types that visit may build.
  static constexpr auto types = boost::hana::tuple_t<placed<typename detail::entry<Entries>::made>...>;

  explicit listed_stages(boost::hana::tuple<Entries...> entries) : entries_{std::move(entries)} {}

  int size() const {
    return boost::hana::unpack(entries_,
                               [](auto const&... each) { return (detail::entry<Entries>::count(each) + ...); });
  }

  /// Throws error where there is no such stage.
  void visit(int index, auto&& f) const {
    if (index < 0 || index >= size())
      throw error("pipewright: there is no stage " + std::to_string(index) + " among " + std::to_string(size()));
    visit_from<0>(index, 0, f);
  }

 private:
  template<std::size_t I> void visit_from(int index, int first_layer, auto& f) const {
    auto const& here = boost::hana::at_c<I>(entries_);
    int const count = entry<I>::count(here);
    if (index < count) {
      first_layer += index * (entry<I>::layers(here) / count);
      f(placed<typename entry<I>::made>{{entry<I>::make(here, index)}, first_layer});
    } else if constexpr (I + 1 < sizeof...(Entries)) {
      visit_from<I + 1>(index - count, first_layer + entry<I>::layers(here), f);
    }
  }

  boost::hana::tuple<Entries...> entries_;
};

/// A set of stages from a list of them: stages, callables that return one (called by the ranks that need it), and
/// repeated(factory, n). Neighbours' types are checked by the compiler, with a sentence that names positions and types.
template<class... Entries> auto stages(boost::hana::tuple<Entries...> entries) {
  if constexpr (detail::explain_entries<Entries...>()) return listed_stages<Entries...>{std::move(entries)};
  else return not_a_stage_set{};
}
template<class... Entries> auto stages(Entries... entries) {
  return stages(boost::hana::tuple<Entries...>{std::move(entries)...});
}

namespace detail {
template<class T> inline constexpr bool is_hana_tuple = false;
template<class... Entries> inline constexpr bool is_hana_tuple<boost::hana::tuple<Entries...>> = true;
}  // namespace detail

/// A stage set as it is, a Hana tuple by stages(): for doors that take either.
template<class T> auto as_stage_set(T set) {
  if constexpr (detail::is_hana_tuple<T>) {
    return stages(std::move(set));
  } else {
    static_assert(stage_set<T>,
                  "pipewright: a set of stages has int size() const, void visit(int index, f) const and the "
                  "types input and last; make one with stages(...), balance<...>(model) or a Hana tuple of stages");
    return set;
  }
}

/// A set whose stages are all marked with a recompute mode. Made by recompute_each.
template<stage_set Set> class recomputed_stages {
  template<class S> using marked = detail::recomputed_at_start_up<S>;

 public:
  using input = typename Set::input;
  using last = marked<typename Set::last>;

  recomputed_stages(Set set, recompute_mode mode) : set_{std::move(set)}, mode_{mode} {}
  int size() const { return set_.size(); }
  void visit(int index, auto&& f) const {
    set_.visit(index, [&]<class S>(S&& stage) { f(marked<std::remove_cvref_t<S>>{{std::forward<S>(stage)}, mode_}); });
  }

 private:
  Set set_;
  recompute_mode mode_;
};

/// The same stages, each marked as by recompute<Stage, mode>. Their type is the same in every mode: a program that takes the
/// mode from its user compiles one pipeline.
auto recompute_each(auto set, recompute_mode mode = recompute_mode::always) {
  return recomputed_stages{as_stage_set(std::move(set)), mode};
}

}  // namespace pipewright::inline v0
