// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <pipewright/schedule/rows.hpp>

namespace pipewright::inline v0 {

/// What a stage costs that has the layers [first, last).
/// Needs: (1) `cost(stage, first, last)`, 0 or more, in any type with order and a zero `T{}`
/// whose conversion to double keeps the order; (2) `at_least(stage, first, last)`: no
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

/// How many layers the first stages may have between them where no stage costs more than allows(cost) does, as far as at_least()
/// tells.
template<stage_cost C, class Allows> class reach {
 public:
  constexpr reach(C const& of, int layers, int stages, int smallest, Allows const& allows)
      : allows_{allows}, least_(static_cast<std::size_t>(stages) + 1), greatest_(least_.size()) {
    for (int s = 0, end = 0; s < stages; ++s) {
      int const begin = end;
      while (end < layers - smallest * (stages - s - 1) && allows(of.at_least(s, begin, end + 1))) ++end;
      greatest_[static_cast<std::size_t>(s) + 1] = end;
    }
    for (int s = stages - 1, begin = layers; s >= 0; --s) {
      int const end = begin;
      least_[static_cast<std::size_t>(s) + 1] = end;
      while (begin > smallest * s && allows(of.at_least(s, begin - 1, end))) --begin;
    }
  }
  constexpr int least(int stages) const { return least_[static_cast<std::size_t>(stages)]; }
  constexpr int greatest(int stages) const { return greatest_[static_cast<std::size_t>(stages)]; }
  constexpr bool allows(auto const& cost) const { return allows_(cost); }
  /// Whether stages may have all layers.
  constexpr bool is_all() const { return least_[least_.size() - 1] == greatest_[greatest_.size() - 1]; }

 private:
  Allows allows_;
  block<int> least_, greatest_;  // by stages
};

/// The least that stages come to, each of a cost that is allowed; none where there is no such cut. `add(so_far, cost)`, from
/// Total{} on, grows with both. Calls note(stage, end, begin) where that begin is the best yet of a stage with that end: of
/// equals the last. Begins are looked at unless the best of their gross, or of their dozen, is no better.
template<class Total, stage_cost C, class Allows>
constexpr std::optional<Total> least_total(C const& of, int layers, int stages, int smallest,
                                           reach<C, Allows> const& within, auto const& add, auto const& note) {
  struct value {
    Total total{};
    bool is_there = false;
  };
  constexpr int dozen = 12, gross = 144;
  block<value> before(static_cast<std::size_t>(layers) + 1), now(before.size());
  block<value> dozens(before.size() / dozen + 1), grosses(before.size() / gross + 1);
  before[0].is_there = true;
  for (int s = 0; s < stages; ++s) {
    int const low = within.least(s), high = within.greatest(s);
    auto const gather = [&](block<value>& groups, int count) {
      for (int begin = low; begin <= high; ++begin) {
        value& best = groups[static_cast<std::size_t>(begin / count)];
        if (begin == low || begin % count == 0) best = {};
        value const& each = before[static_cast<std::size_t>(begin)];
        if (each.is_there && (!best.is_there || each.total < best.total)) best = each;
      }
    };
    gather(dozens, dozen);
    gather(grosses, gross);
    for (int end = within.least(s + 1); end <= within.greatest(s + 1); ++end) {
      value best;
      auto const is_better = [&](value const& rest, auto const& cost) {
        return rest.is_there && (!best.is_there || add(rest.total, cost) < best.total);
      };
      for (int begin = std::min(end - smallest, high), next = 0; begin >= low; begin = next) {
        auto const least = of.at_least(s, begin, end);
        if (!within.allows(least) || !is_better({Total{}, true}, least)) break;  // more layers cost no less
        next = begin / gross * gross - 1;
        if (!is_better(grosses[static_cast<std::size_t>(begin / gross)], least)) continue;
        next = begin / dozen * dozen - 1;
        if (!is_better(dozens[static_cast<std::size_t>(begin / dozen)], least)) continue;
        for (; begin > next && begin >= low; --begin) {
          value const& rest = before[static_cast<std::size_t>(begin)];
          if (!is_better(rest, of.at_least(s, begin, end)) || !of.fits(s, begin, end)) continue;
          auto const cost = of.cost(s, begin, end);
          if (!within.allows(cost) || !is_better(rest, cost)) continue;
          best = {add(rest.total, cost), true};
          note(s, end, begin);
        }
      }
      now[static_cast<std::size_t>(end)] = best;
    }
    std::swap(before, now);
  }
  value const& all = before[static_cast<std::size_t>(layers)];
  return within.is_all() && all.is_there ? std::optional<Total>(all.total) : std::nullopt;
}

/// The least cost of the dearest stage; none where nothing fits. Looks first for a cut that costs no more than at_least() says it
/// must, then for ever dearer ones: so a search never goes through much more than it needs.
template<stage_cost C>
constexpr auto least_dearest(C const& of, int layers, int stages, int smallest) {
  using T = decltype(of.cost(0, 0, 0));
  auto const within = [&](double most) {
    auto const allows = [most](T const& cost) { return static_cast<double>(cost) <= most; };
    return reach<C, decltype(allows)>(of, layers, stages, smallest, allows);
  };
  double whole = 0, must = 0;
  for (int s = 0; s < stages; ++s) whole = std::max(whole, static_cast<double>(of.at_least(s, 0, layers)));
  must = whole;
  double step = whole / 2;
  for (int i = 0; i < 40; ++i) {  // to 1e-12 of it
    if (within(must - step).is_all()) must -= step;
    step /= 2;
  }
  double most = must, more = must / 64;
  for (;;) {
    bool const is_last = most >= whole || more == 0;
    auto const found = least_total<T>(
        of, layers, stages, smallest, within(is_last ? std::numeric_limits<double>::infinity() : most),
        [](T const& a, T const& b) { return std::max(a, b); }, [](int, int, int) {});
    if (found || is_last) return found;
    most = must + more;
    more *= 2;
  }
}

}  // namespace detail

/// The cut of a chain of layers into consecutive stages whose dearest stage is as cheap as can be; among those the most even
/// one (the least sum of squares, as doubles); among those the one whose last stages are smallest. None where no cut fits, or
/// there are fewer layers than stages and `may_be_empty` is false. Exact, by dynamic programming: passes look at every
/// stage and every end of it that the other stages can live with, and back from there only as far as at_least() allows: a pass
/// is never more than O(k n^2), and the few that are made are soon over where costs are near at_least(). Memory O(k n).
template<stage_cost C> constexpr auto cheapest_cut(C const& of, int layers, int stages, bool may_be_empty = false) {
  using T = decltype(of.cost(0, 0, 0));
  int const smallest = may_be_empty ? 0 : 1;
  std::optional<cut<T>> found;
  if (stages < 1 || layers < smallest * stages) return found;
  std::optional<T> const dearest = detail::least_dearest(of, layers, stages, smallest);
  if (!dearest) return found;

  block<int> last(static_cast<std::size_t>(stages) * (static_cast<std::size_t>(layers) + 1));
  auto const size_of_last = [&](int stage, int end) -> int& {
    return last[static_cast<std::size_t>(stage) * (static_cast<std::size_t>(layers) + 1) +
                static_cast<std::size_t>(end)];
  };
  auto const allows = [&](T const& cost) { return !(*dearest < cost); };
  detail::least_total<double>(
      of, layers, stages, smallest, detail::reach<C, decltype(allows)>(of, layers, stages, smallest, allows),
      [](double squares, T const& cost) { return squares + static_cast<double>(cost) * static_cast<double>(cost); },
      [&](int stage, int end, int begin) { size_of_last(stage, end) = end - begin; });
  found = cut<T>{std::vector<int>(static_cast<std::size_t>(stages)), *dearest};
  for (int s = stages - 1, end = layers; s >= 0; --s) {
    int const size = size_of_last(s, end);
    found->sizes[static_cast<std::size_t>(s)] = size;
    end -= size;
  }
  return found;
}

}  // namespace pipewright::inline v0
