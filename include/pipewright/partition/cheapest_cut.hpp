// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include <pipewright/schedule/rows.hpp>

namespace pipewright::inline v0 {

/// What a stage costs that has the layers [first, last).
/// Needs: (1) `cost(stage, first, last)`, in any ordered type that converts to double; (2) `at_least(stage, first, last)`: no
/// more than the cost of these layers, nor than that of any more layers around them, so that a search may stop there;
/// (3) `fits(stage, first, last)`: whether the stage may have them at all.
/// Promises: pure functions of their arguments. Not required: that a cost grows with the layers (a dear boundary may be left
/// behind), nor that it is the same on all stages. Minimal model: stage_costs_of_chain.
template<class C>
concept stage_cost = requires(C const& c, int i) {
  { c.cost(i, i, i) } -> std::totally_ordered;
  { c.at_least(i, i, i) } -> std::same_as<decltype(c.cost(i, i, i))>;
  { c.fits(i, i, i) } -> std::same_as<bool>;
};

/// A cut and the cost of its dearest stage.
template<class T> struct cut {
  std::vector<int> sizes;  ///< layers of each stage
  T dearest;
};

namespace detail {

/// What the dearest stage costs where each has about its share of the whole: a bound that is soon found. None where it does not
/// fit.
template<stage_cost C> constexpr auto dearest_of_shares(C const& of, int layers, int stages, int smallest) {
  std::optional<decltype(of.cost(0, 0, 0))> most;
  auto const before = [&](int end) { return static_cast<double>(of.at_least(0, 0, end)); };
  double const share = before(layers) / stages;
  for (int s = 0, begin = 0, end = 0; s < stages; ++s, begin = end) {
    int const last = layers - smallest * (stages - s - 1);
    end = s + 1 == stages ? layers : begin + smallest;
    while (end < last && before(end + 1) <= share * (s + 1)) ++end;
    if (end > last || !of.fits(s, begin, end)) return std::optional<decltype(of.cost(0, 0, 0))>();
    if (auto const here = of.cost(s, begin, end); !most || *most < here) most = here;
  }
  return most;
}

/// The least cost of the dearest of `stages` stages; none where nothing fits.
template<stage_cost C> constexpr auto least_dearest(C const& of, int layers, int stages, int smallest) {
  using T = decltype(of.cost(0, 0, 0));
  struct value {
    T most{};
    bool is_there = false;
  };
  std::optional<T> const bound = dearest_of_shares(of, layers, stages, smallest);
  auto const count = static_cast<std::size_t>(layers) + 1;
  block<value> before(count), now(count);
  before[0].is_there = true;
  for (int s = 0, last = 0; s < stages; ++s) {
    int last_now = -1;  // no more layers than this can s + 1 stages have
    for (int end = 0; end <= layers; ++end) {
      value best;
      for (int begin = std::min(end - smallest, last); begin >= s * smallest; --begin) {
        T const least = of.at_least(s, begin, end);
        if (best.is_there ? !(least < best.most) : bound && *bound < least) break;
        value const& rest = before[static_cast<std::size_t>(begin)];
        if (!rest.is_there || (best.is_there && !(rest.most < best.most)) || !of.fits(s, begin, end)) continue;
        T here = of.cost(s, begin, end);
        if (s > 0 && here < rest.most) here = rest.most;
        if (!best.is_there || here < best.most) best = {here, true};
      }
      if (best.is_there && bound && *bound < best.most) best.is_there = false;
      if (best.is_there) last_now = end;
      now[static_cast<std::size_t>(end)] = best;
    }
    if (last_now < 0) return std::optional<T>();
    last = last_now;
    std::swap(before, now);
  }
  value const& all = before[static_cast<std::size_t>(layers)];
  return all.is_there ? std::optional<T>(all.most) : std::nullopt;
}

}  // namespace detail

/// The cut of a chain of layers into consecutive stages whose dearest stage is as cheap as can be; among those the most even
/// one (the least sum of squares, as doubles); among those the one whose last stages are smallest. None where no cut fits, or
/// there are fewer layers than stages and `may_be_empty` is false. Exact, by dynamic programming: the two passes look at
/// every stage and end of it, and back from there only as far as at_least() and a first rough cut allow: O(n^2) where layers are
/// alike, never more than O(k n^2). Memory O(k n).
template<stage_cost C> constexpr auto cheapest_cut(C const& of, int layers, int stages, bool may_be_empty = false) {
  using T = decltype(of.cost(0, 0, 0));
  int const smallest = may_be_empty ? 0 : 1;
  std::optional<cut<T>> found;
  if (stages < 1 || layers < 0) return found;
  std::optional<T> const dearest = detail::least_dearest(of, layers, stages, smallest);
  if (!dearest) return found;

  struct value {
    double squares = 0;
    bool is_there = false;
  };
  auto const count = static_cast<std::size_t>(layers) + 1;
  block<value> before(count), now(count);
  block<int> last(static_cast<std::size_t>(stages) * count);  // the size of the last stage, by stages and layers so far
  before[0].is_there = true;
  for (int s = 0; s < stages; ++s) {
    for (int end = 0; end <= layers; ++end) {
      value best;
      for (int begin = end - smallest; begin >= s * smallest; --begin) {
        if (*dearest < of.at_least(s, begin, end)) break;
        value const& rest = before[static_cast<std::size_t>(begin)];
        if (!rest.is_there || !of.fits(s, begin, end)) continue;
        T const here = of.cost(s, begin, end);
        if (*dearest < here) continue;
        double const squares = rest.squares + static_cast<double>(here) * static_cast<double>(here);
        if (best.is_there && !(squares < best.squares)) continue;
        best = {squares, true};
        last[static_cast<std::size_t>(s) * count + static_cast<std::size_t>(end)] = end - begin;
      }
      now[static_cast<std::size_t>(end)] = best;
    }
    std::swap(before, now);
  }
  found = cut<T>{std::vector<int>(static_cast<std::size_t>(stages)), *dearest};
  for (int s = stages - 1, end = layers; s >= 0; --s) {
    int const size = last[static_cast<std::size_t>(s) * count + static_cast<std::size_t>(end)];
    found->sizes[static_cast<std::size_t>(s)] = size;
    end -= size;
  }
  return found;
}

}  // namespace pipewright::inline v0
