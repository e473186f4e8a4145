// SPDX-License-Identifier: Apache-2.0
#pragma once
// What three scalar stages become, learning rate 1/4: the recurrences of the PipeDream and PipeDream-2BW papers in exact
// fractions, worked out apart from the library.

#include <cmath>
#include <string_view>
#include <vector>

#include <pipewright/schedule/policy.hpp>

namespace toys {

struct scalar_table {
  std::string_view name;
  pipewright::weight_rule rule;
  int micro_batches;   ///< of a step
  int drained_before;  ///< micro-batch, or -1: never
  std::vector<double> initial;
  std::vector<double> inputs;                 ///< by micro-batch
  std::vector<std::vector<double>> versions;  ///< by stage
  std::vector<double> outputs;                ///< by micro-batch, of the last stage
};

/// Numerator / 2^power.
inline double dyadic(double numerator, int power) { return std::ldexp(numerator, -power); }

inline std::vector<scalar_table> scalar_tables() {
  using pipewright::weight_rule;
  auto const d = dyadic;
  std::vector<double> const ones{1, 1, 1}, uneven{1, 0.5, 0.75};
  std::vector<double> const sync{1, 0.75, 0.5, 0.25, d(781, 12)}, drained{1, 0.75, 0.5, d(63, 7), d(31, 6)};
  std::vector<double> const two{1, d(27, 5), d(11, 4), d(666452969, 30), d(640684809, 30)};
  std::vector<double> const two_drained{1, d(27, 5), d(11, 4), d(22263417, 25), d(10729081, 24)};
  return {
      {"stashing",
       weight_rule::stashing,
       1,
       -1,
       ones,
       {1, 1, 1, 1},
       {{1, 0.75, d(39, 6), d(9255, 14), d(37700234445, 36)},
        {1, 0.75, d(39, 6), d(2253, 12), d(2276437953, 32)},
        {1, 0.75, d(9, 4), d(495, 10), d(122985225, 28)}},
       {1, 0.75, d(27, 6), d(57915, 18)}},
      {"vertical sync", weight_rule::vertical_sync, 1, -1, ones, {1, 1, 1, 1}, {sync, sync, sync}, {1, 1, 1, d(27, 6)}},
      {"2bw",
       weight_rule::double_buffered,
       2,
       -1,
       ones,
       {1, 0.5, 1, 0.5, 1, 0.5, 1, 0.5},
       {two, two, two},
       {1, 0.5, 1, 0.5, d(19683, 15), d(19683, 16), d(1331, 12), d(1331, 13)}},
      {"stashing, uneven",
       weight_rule::stashing,
       1,
       -1,
       uneven,
       {1, 0.5, 1.5},
       {{1, d(247, 8), d(250903, 18), d(3990640375423, 42)},
        {0.5, d(55, 7), d(54295, 17), d(10254682105, 35)},
        {0.75, d(45, 6), d(2835, 12), d(665995365, 30)}},
       {d(3, 3), d(45, 8), d(467775, 20)}},
      {"vertical sync, uneven",
       weight_rule::vertical_sync,
       1,
       -1,
       uneven,
       {1, 0.5, 1.5, 1},
       {{1, d(247, 8), d(979, 10), d(449, 9), d(58750730497, 36)},
        {0.5, d(55, 7), d(211, 9), d(65, 8), d(28101731905, 37)},
        {0.75, d(45, 6), d(177, 8), d(75, 7), d(152756423475, 38)}},
       {d(3, 3), d(3, 4), d(9, 4), d(611325, 21)}},
      {"2bw, uneven",
       weight_rule::double_buffered,
       2,
       -1,
       uneven,
       {1, 0.5, 1.5, 1},
       {{1, d(2003, 11), d(943, 10)}, {0.5, d(467, 10), d(175, 9)}, {0.75, d(369, 9), d(165, 8)}},
       {d(3, 3), d(3, 4), d(9, 4), d(3, 3)}},
      {"stashing, drained",
       weight_rule::stashing,
       1,
       2,
       ones,
       {1, 1, 1},
       {{1, 0.75, d(39, 6), d(158773017, 28)},
        {1, 0.75, d(39, 6), d(158773017, 28)},
        {1, 0.75, d(9, 4), d(583158807, 30)}},
       {1, 0.75, d(13689, 16)}},
      {"vertical sync, drained",
       weight_rule::vertical_sync,
       1,
       2,
       ones,
       {1, 1, 1, 1},
       {drained, drained, drained},
       {1, 1, d(1, 3), d(1, 3)}},
      {"2bw, drained",
       weight_rule::double_buffered,
       2,
       4,
       ones,
       {1, 0.5, 1, 0.5, 1, 0.5, 1, 0.5},
       {two_drained, two_drained, two_drained},
       {1, 0.5, 1, 0.5, d(1331, 12), d(1331, 13), d(1331, 12), d(1331, 13)}},
  };
}

}  // namespace toys
