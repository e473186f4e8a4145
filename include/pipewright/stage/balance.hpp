// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <boost/hana/tuple.hpp>
#include <boost/hana/type.hpp>

#include <pipewright/error.hpp>
#include <pipewright/stage/layer_list.hpp>
#include <pipewright/stage/stage_set.hpp>

namespace pipewright::inline v0 {

/// Where the sizes of balance<...> and a model disagree; its arguments stand in the error.
template<int SumOfSizes, int LayersOfTheModel> struct SIZES_DO_NOT_ADD_UP {
  static_assert(SumOfSizes == LayersOfTheModel,
                "pipewright: balance gives away another number of layers than the model has; the arguments of "
                "SIZES_DO_NOT_ADD_UP are the sum of the sizes and the layers of the model; make the two equal");
  static constexpr bool ok = SumOfSizes == LayersOfTheModel;
};

/// A model cut into stages at places known to the compiler. Made by balance<...>.
template<class Layers, int... Sizes> class constant_cut {
  template<std::size_t S> using place = detail::constant_place<Layers, S, Sizes...>;
  template<std::size_t S> using stage_at =
      typename Layers::template segment<place<S>::first_entry, place<S>::last_entry>;

 public:
  using input = typename stage_at<0>::input;
  using last = stage_at<sizeof...(Sizes) - 1>;
  static constexpr auto types = []<std::size_t... S>(std::index_sequence<S...>) {
    return boost::hana::tuple_t<stage_at<S>...>;
  }(std::make_index_sequence<sizeof...(Sizes)>{});

  explicit constant_cut(Layers layers) : layers_{std::move(layers)} {}

  static constexpr int size() { return sizeof...(Sizes); }

  /// Throws error where there is no such stage.
  void visit(int index, auto&& f) const {
    if (index < 0 || index >= size())
      throw error("pipewright: there is no stage " + std::to_string(index) + " among " + std::to_string(size()));
    [&]<std::size_t... S>(std::index_sequence<S...>) {
      ((index == static_cast<int>(S) ? void(f(layers_.template make<place<S>::first_entry, place<S>::last_entry>(
                                           place<S>::first, place<S>::size)))
                                     : void()),
       ...);
    }(std::make_index_sequence<sizeof...(Sizes)>{});
  }

 private:
  Layers layers_;
};

/// A model cut into stages at places known at start-up: sizes, or the length of a repetition. Made by balance.
/// Its stage types are all runs of neighbouring entries, K(K+1)/2 for a list of K entries (6 for embedding, repeated
/// blocks, head), whatever the sizes; a long list of different layers is better given as repeated(factories of any_stage).
template<class Layers, std::size_t Entries> class start_up_cut {
  template<std::size_t Number> using run = detail::run_of_entries<Number, Entries>;
  template<std::size_t Number> using stage_of =
      typename Layers::template segment<run<Number>::first, run<Number>::last>;
  using all_runs = std::make_index_sequence<Entries*(Entries + 1) / 2>;

 public:
  using input = typename stage_of<0>::input;
  using last = typename Layers::template segment<0, Entries - 1>;
  static constexpr auto types = []<std::size_t... N>(std::index_sequence<N...>) {
    return boost::hana::tuple_t<stage_of<N>...>;
  }(all_runs{});

  start_up_cut(Layers layers, std::vector<int> sizes) : layers_{std::move(layers)}, sizes_{std::move(sizes)} {
    std::string text;
    for (int each : sizes_) {
      if (each < 1)
        throw error("pipewright: balance: every stage needs at least one layer, not " + std::to_string(each) +
                    "; with fewer layers than stages choose fewer ranks");
      text += (text.empty() ? "" : " + ") + std::to_string(each);
    }
    int const have = detail::sum_of(layers_.sizes()), given = detail::sum_of(sizes_);
    if (given != have)
      throw error("pipewright: balance: the sizes " + (text.empty() ? "given" : text) + " give away " +
                  std::to_string(given) + " layers, but the model has " + std::to_string(have) +
                  "; make the two equal");
  }

  int size() const { return static_cast<int>(sizes_.size()); }

  /// Throws error where there is no such stage.
  void visit(int index, auto&& f) const {
    if (index < 0 || index >= size())
      throw error("pipewright: there is no stage " + std::to_string(index) + " among " + std::to_string(size()));
    auto const at = static_cast<std::size_t>(index);
    int const first = detail::sum_of(sizes_, at), size = sizes_[at];
    std::size_t const first_entry = detail::entry_of(layers_.sizes(), first);
    std::size_t const last_entry = detail::entry_of(layers_.sizes(), first + size - 1);
    [&]<std::size_t... N>(std::index_sequence<N...>) {
      ((run<N>::first == first_entry && run<N>::last == last_entry
            ? void(f(layers_.template make<run<N>::first, run<N>::last>(first, size)))
            : void()),
       ...);
    }(all_runs{});
  }

 private:
  Layers layers_;
  std::vector<int> sizes_;
};

/// Cuts a model into stages of that many layers each, at run time. A model is a Hana tuple of layers: stages, callables
/// that return one, repeated(factory, n) (n layers); the last one usually a loss stage. Each stage is a chain. Throws
/// error unless every size is at least 1 and they add up to the number of layers.
template<class... Entries> auto balance(boost::hana::tuple<Entries...> model, std::vector<int> sizes) {
  if constexpr (detail::explain_entries<Entries...>()) {
    using layers = detail::layer_list<Entries...>;
    return start_up_cut<layers, sizeof...(Entries)>{layers{std::move(model)}, std::move(sizes)};
  } else {
    return not_a_stage_set{};
  }
}

/// Cuts a model into stages of that many layers each: balance<4, 3, 3, 4>(model). Checked by the compiler where the model
/// has no repeated(factory, n) with a run-time n, else as above.
template<int... Sizes, class... Entries>
requires(sizeof...(Sizes) > 0) auto balance(boost::hana::tuple<Entries...> model) {
  if constexpr (!((Sizes >= 1) && ...)) {
    static_assert(((Sizes >= 1) && ...),
                  "pipewright: every stage of balance<...> needs at least one layer; with fewer "
                  "layers than stages choose fewer ranks");
    return not_a_stage_set{};
  } else if constexpr (!detail::explain_entries<Entries...>()) {
    return not_a_stage_set{};
  } else {
    using layers = detail::layer_list<Entries...>;
    if constexpr (!layers::constant) return balance(std::move(model), std::vector<int>{Sizes...});
    else if constexpr (SIZES_DO_NOT_ADD_UP<(Sizes + ...), detail::sum_of(layers::constant_sizes)>::ok)
      return constant_cut<layers, Sizes...>{layers{std::move(model)}};
    else return not_a_stage_set{};
  }
}

/// A model: the Hana tuple of its layers.
template<class... Entries> auto layers(Entries... entries) {
  return boost::hana::tuple<Entries...>{std::move(entries)...};
}

}  // namespace pipewright::inline v0
