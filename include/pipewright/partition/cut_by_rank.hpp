// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include <pipewright/partition/cost_chain.hpp>

namespace pipewright::inline v0 {

/// A cut into chunks, judged by what all chunks of a rank cost together.
template<class T> struct rank_cut {
  std::vector<int> sizes;  ///< layers of each stage
  T dearest;               ///< what the stages of the dearest rank cost together
  double bound;            ///< no cut has a cheaper dearest rank than this
  bool is_best;            ///< proven: the search came to its end
  /// How much cheaper, as a part of it, the dearest rank might be at most.
  constexpr double gap() const {
    auto const is = static_cast<double>(dearest);
    return is_best || is <= 0 ? 0 : std::max(0., 1 - bound / is);
  }
};

namespace detail {

/// What the stages of the dearest of so many ranks cost together.
template<class Costs>
constexpr auto dearest_rank(Costs const& of, std::vector<int> const& rank_of_stage, int ranks,
                            std::vector<int> const& sizes) {
  std::vector<decltype(of.cost(0, 0, 0))> loads(static_cast<std::size_t>(ranks));
  for (int stage = 0, begin = 0; stage < static_cast<int>(sizes.size()); ++stage) {
    int const end = begin + sizes[static_cast<std::size_t>(stage)];
    loads[static_cast<std::size_t>(rank_of_stage[static_cast<std::size_t>(stage)])] += of.cost(stage, begin, end);
    begin = end;
  }
  return *std::max_element(loads.begin(), loads.end());
}

/// Goes through the cuts, and leaves those out that cannot beat the best so far.
template<class T, class Costs> class rank_cut_search {
 public:
  constexpr rank_cut_search(Costs const& of, int layers, std::vector<int> const& rank_of_stage, int ranks, T least_pace,
                            long long most_nodes, std::vector<int> sizes)
      : of_{of},
        layers_{layers},
        rank_of_{rank_of_stage},
        least_pace_{least_pace},
        left_{most_nodes},
        loads_(static_cast<std::size_t>(ranks)),
        now_(rank_of_stage.size()),
        best_{std::move(sizes)},
        dearest_{dearest_rank(of, rank_of_stage, ranks, best_)} {}
  /// Whether it came to the end.
  constexpr bool run() {
    extend(0, 0, T(0), T(0));
    return left_ > 0;
  }
  constexpr std::vector<int> const& best() const { return best_; }
  constexpr T dearest() const { return dearest_; }

 private:
  constexpr T& load_of(int stage) {
    return loads_[static_cast<std::size_t>(rank_of_[static_cast<std::size_t>(stage)])];
  }

  constexpr void extend(int stage, int begin, T all, T highest) {
    int const stages = static_cast<int>(rank_of_.size());
    if (--left_ <= 0) return;
    if (stage == stages) {
      dearest_ = highest;
      best_ = now_;
      return;
    }
    bool const is_last = stage + 1 == stages;
    for (int end = is_last ? layers_ : begin + 1; end <= layers_ - (stages - stage - 1); ++end) {
      T const before = load_of(stage);
      if (!(before + of_.at_least(stage, begin, end) < dearest_)) return;
      if (!of_.fits(stage, begin, end)) continue;
      T const here = of_.cost(stage, begin, end), load = before + here;
      if (!(load < dearest_)) continue;
      // All ranks together have at least this much to do, and the dearest one no less than its share.
      if (!(all + here + least_pace_ * of_.work(end, layers_) < dearest_ * T(static_cast<int>(loads_.size()))))
        continue;
      load_of(stage) = load;
      now_[static_cast<std::size_t>(stage)] = end - begin;
      extend(stage + 1, end, all + here, std::max(highest, load));
      load_of(stage) = before;
      if (left_ <= 0) return;
    }
  }

  Costs const& of_;
  int layers_;
  std::vector<int> const& rank_of_;
  T least_pace_;
  long long left_;
  std::vector<T> loads_;
  std::vector<int> now_, best_;
  T dearest_;
};

}  // namespace detail

/// The cut into chunks whose dearest rank is as cheap as can be, of all its chunks together: what bounds the throughput of an
/// interleaved schedule. `rank_of_stage` is the placement (looped, V-shaped, any). To find it is NP-hard in the number of
/// ranks: the search leaves out what cannot win and starts from cut_chain(), the best for the dearest chunk; after
/// `most_nodes` steps it gives the best it has seen, with a bound. Deterministic. None where no cut fits. Throws error where the
/// placement gives no stage a rank, or a negative one, and as cut_chain() does.
template<class T, class Fits = no_limit>
constexpr std::optional<rank_cut<T>> cut_by_rank(cost_chain<T> const& of, std::vector<int> const& rank_of_stage,
                                                 long long most_nodes = 1'000'000, Fits const& fits = {}) {
  int const stages = static_cast<int>(rank_of_stage.size()), layers = static_cast<int>(of.work.size());
  if (rank_of_stage.empty() || *std::min_element(rank_of_stage.begin(), rank_of_stage.end()) < 0)
    throw error("a chain cannot be cut: a placement gives every stage a rank, from 0 on");
  auto first = cut_chain(of, stages, fits);
  if (!first) return std::nullopt;
  stage_costs_of_chain<T, Fits> const costs(of, fits);
  int const ranks = *std::max_element(rank_of_stage.begin(), rank_of_stage.end()) + 1;
  T const least_pace = of.pace.empty() ? T(1) : *std::min_element(of.pace.begin(), of.pace.end());
  detail::rank_cut_search<T, stage_costs_of_chain<T, Fits>> search(costs, layers, rank_of_stage, ranks, least_pace,
                                                                   most_nodes, std::move(first->sizes));
  bool const is_best = search.run();
  double bound = static_cast<double>(least_pace * costs.work(0, layers)) / ranks;
  for (T const& each : of.work) bound = std::max(bound, static_cast<double>(least_pace * each));
  if (is_best) bound = static_cast<double>(search.dearest());
  return rank_cut<T>{search.best(), search.dearest(), bound, is_best};
}

}  // namespace pipewright::inline v0
