// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include <boost/hana/at.hpp>
#include <boost/hana/tuple.hpp>
#include <boost/hana/unpack.hpp>

#include <pipewright/stage/chain.hpp>
#include <pipewright/stage/entry.hpp>
#include <pipewright/stage/repeated_layers.hpp>

namespace pipewright::inline v0 {

namespace detail {

/// What an entry's layers become within one stage.
template<class Entry> struct part_of {
  using type = typename Entry::made;
};
template<class Entry>
requires Entry::repeats struct part_of<Entry> {
  using type = repeated_layers<typename Entry::made>;
};

/// The layers of a model, and stages made of some of them. A layer is a list's entry; a repetition is as many as it says.
template<class... Entries> class layer_list {
  static constexpr std::size_t count = sizeof...(Entries);
  template<std::size_t I> using entry = entry_at<I, Entries...>;
  template<std::size_t I> using part = typename part_of<entry<I>>::type;

 public:
  using counts = std::array<int, count>;

  template<std::size_t First, class Indices> struct segment_type;
  template<std::size_t First, std::size_t... I> struct segment_type<First, std::index_sequence<I...>> {
    using type = placed<chain<part<First + I>...>>;
  };
  /// A stage that holds layers of the entries First..Last.
  template<std::size_t First, std::size_t Last> using segment =
      typename segment_type<First, std::make_index_sequence<Last - First + 1>>::type;

  static constexpr bool constant = ((detail::entry<Entries>::constant_count > 0) && ...);
  static constexpr counts constant_sizes{detail::entry<Entries>::constant_count...};

  explicit layer_list(boost::hana::tuple<Entries...> entries) : entries_{std::move(entries)} {}

  counts sizes() const {
    return boost::hana::unpack(entries_,
                               [](auto const&... each) { return counts{detail::entry<Entries>::count(each)...}; });
  }

  /// The stage that holds `size` layers from `first` on, which lie in the entries First..Last.
  template<std::size_t First, std::size_t Last> segment<First, Last> make(int first, int size) const {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      auto const n = sizes();
      int first_layer = 0, before = 0;  // layers, and list positions, up to entry First
      [&]<std::size_t... Before>(std::index_sequence<Before...>) {
        ((first_layer += entry<Before>::layers(boost::hana::at_c<Before>(entries_)), before += n[Before]), ...);
      }(std::make_index_sequence<First>{});
      if constexpr (entry<First>::repeats) first_layer += (first - before) * entry<First>::layers_of_each();
      int at = first - before;  // within the entry
      int left = size;
      auto take = [&]<std::size_t E>(std::integral_constant<std::size_t, E>) {
        int const here = std::min(n[E] - at, left), from = std::exchange(at, 0);
        left -= here;
        return make_part<E>(from, here);
      };
      // Braces: from left to right.
      return segment<First, Last>{chain<part<First + I>...>{take(std::integral_constant<std::size_t, First + I>{})...},
                                  first_layer};
    }(std::make_index_sequence<Last - First + 1>{});
  }

 private:
  template<std::size_t E> part<E> make_part(int from, int number) const {
    auto const& here = boost::hana::at_c<E>(entries_);
    if constexpr (entry<E>::repeats) {
      std::vector<typename entry<E>::made> layers;
      layers.reserve(static_cast<std::size_t>(number));
      for (int i = 0; i < number; ++i) layers.push_back(entry<E>::make(here, from + i));
      return part<E>{std::move(layers)};
    } else {
      return entry<E>::make(here, 0);
    }
  }

  boost::hana::tuple<Entries...> entries_;
};

/// The entry in which a layer lies.
constexpr std::size_t entry_of(auto const& sizes, int layer) {
  std::size_t at = 0;
  while (layer >= sizes[at]) layer -= sizes[at++];
  return at;
}

/// The sum of the first n sizes.
constexpr int sum_of(auto const& sizes, std::size_t n) {
  int sum = 0;
  for (std::size_t i = 0; i != n; ++i) sum += sizes[i];
  return sum;
}
constexpr int sum_of(auto const& sizes) { return sum_of(sizes, sizes.size()); }

/// Where stage S of a constant cut stands in the list.
template<class Layers, std::size_t S, int... Sizes> struct constant_place {
  static constexpr std::array<int, sizeof...(Sizes)> sizes{Sizes...};
  static constexpr int size = sizes[S];
  static constexpr int first = sum_of(sizes, S);
  static constexpr std::size_t first_entry = entry_of(Layers::constant_sizes, first);
  static constexpr std::size_t last_entry = entry_of(Layers::constant_sizes, first + size - 1);
};

/// The runs of neighbours among n entries, numbered: 0..0, 0..1, ..., 1..1, ...
template<std::size_t Number, std::size_t Entries> struct run_of_entries {
  static constexpr std::size_t first = [] {
    std::size_t at = 0, left = Number;
    while (left >= Entries - at) left -= Entries - at++;
    return at;
  }();
  static constexpr std::size_t last = Number - first * Entries + first * (first + 1) / 2;
};

}  // namespace detail

}  // namespace pipewright::inline v0
