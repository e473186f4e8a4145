// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/partition/cheapest_cut.hpp>

namespace pipewright::inline v0 {

/// How the transfers over a cut count.
enum class crossings : std::uint8_t {
  overlapped,  ///< they pass while stages work: a stage takes as long as the longest of its work and its two transfers
  added,       ///< a stage waits for both of its transfers
};

/// A chain of layers, in any unit of time.
template<class T> struct cost_chain {
  std::vector<T> work;        ///< by layer, of one micro-batch: 0 or more
  std::vector<T> crossing{};  ///< by boundary (the i-th is behind layer i): what a cut there takes; empty: nothing
  crossings over = crossings::overlapped;
  std::vector<T> pace{};  ///< by stage: its device takes so many times as long as `work` says; empty: 1
  /// By stage: the link behind it takes so many times as long as `crossing` says; empty: 1. The last one's counts for nothing.
  std::vector<T> link_pace{};
};

/// Anything fits.
struct no_limit {
  constexpr bool operator()(int, int, int) const { return true; }
};

/// What stages of a chain cost: the minimal model of stage_cost. `Fits` is a function (stage, first, last) -> bool.
template<class T, class Fits> class stage_costs_of_chain {
 public:
  constexpr stage_costs_of_chain(cost_chain<T> const& of, Fits const& fits)
      : of_{of}, fits_{fits}, before_(of.work.size() + 1) {
    for (std::size_t i = 0; i < of.work.size(); ++i) before_[i + 1] = before_[i] + of.work[i];
    data_ = before_.data();
  }

  constexpr T work(int first, int last) const { return data_[last] - data_[first]; }
  constexpr T at_least(int stage, int first, int last) const {
    return of_.pace.empty() ? work(first, last) : work(first, last) * of_.pace[static_cast<std::size_t>(stage)];
  }
  constexpr T cost(int stage, int first, int last) const {
    T const work = at_least(stage, first, last);
    if (of_.crossing.empty()) return work;
    T const in = crossing(stage - 1, first), out = crossing(stage, last);
    return of_.over == crossings::added ? work + in + out : std::max({work, in, out});
  }
  constexpr bool fits(int stage, int first, int last) const { return fits_(stage, first, last); }

 private:
  /// Of the boundary behind a stage, where layer `before` begins the next one.
  constexpr T crossing(int stage, int before) const {
    if (before == 0 || before == static_cast<int>(of_.work.size())) return T(0);
    T const alone = of_.crossing[static_cast<std::size_t>(before) - 1];
    return of_.link_pace.empty() ? alone : alone * of_.link_pace[static_cast<std::size_t>(stage)];
  }

  cost_chain<T> const& of_;
  Fits const& fits_;
  block<T> before_;  // the sum of the work of the layers before
  T const* data_;
};
static_assert(stage_cost<stage_costs_of_chain<double, no_limit>>);

namespace detail {

template<class T> constexpr void check(cost_chain<T> const& of, int stages) {
  auto const refuse = [](char const* what) { throw error(std::string("a chain cannot be cut: ") + what); };
  if (!of.crossing.empty() && of.crossing.size() + 1 != of.work.size())
    refuse("`crossing` has one value for each boundary, one less than there are layers, or none");
  if (!of.pace.empty() && static_cast<int>(of.pace.size()) != stages)
    refuse("`pace` has one value for each stage, or none");
  if (!of.link_pace.empty() && static_cast<int>(of.link_pace.size()) != stages)
    refuse("`link_pace` has one value for each stage, or none");
  for (auto const* each : {&of.work, &of.crossing, &of.link_pace})
    for (T const& x : *each)
      if (!(x >= T(0)) || !(x - x == T(0)))
        refuse("work, crossings and the paces of links are numbers from 0 on, none of them infinite");
  for (T const& x : of.pace)
    if (!(x > T(0))) refuse("paces are more than 0");
}

}  // namespace detail

/// The cut whose dearest stage is as cheap as can be, as cheapest_cut() has it; none where there are fewer layers than stages
/// or nothing fits. `fits(stage, first, last)` says whether a stage may have those layers: a memory limit, say. Throws
/// pipewright::error where the chain is none.
template<class T, class Fits = no_limit>
constexpr std::optional<cut<T>> cut_chain(cost_chain<T> const& of, int stages, Fits const& fits = {}) {
  detail::check(of, stages);
  return cheapest_cut(stage_costs_of_chain<T, Fits>(of, fits), static_cast<int>(of.work.size()), stages);
}

}  // namespace pipewright::inline v0
