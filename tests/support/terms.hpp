// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

namespace support {

/// A symbolic value: equal numbers are equal terms, whoever made them and when. 0 is "nothing".
using value = int;

/// Makes terms: an operation applied to values and indices.
class term_table {
 public:
  value operator()(std::vector<int> operation_and_operands) {
    auto const [at, fresh] =
        numbers_.try_emplace(std::move(operation_and_operands), static_cast<int>(numbers_.size()) + 1);
    if (fresh) terms_.push_back(&at->first);
    return at->second;
  }
  std::vector<int> const& operation_and_operands(value v) const { return *terms_.at(static_cast<std::size_t>(v) - 1); }

 private:
  struct hash {
    std::size_t operator()(std::vector<int> const& term) const {
      std::uint64_t h = 1469598103934665603ULL;
      for (int const x : term) h = (h ^ static_cast<std::uint32_t>(x)) * 1099511628211ULL;
      return static_cast<std::size_t>(h ^ (h >> 29));
    }
  };
  std::unordered_map<std::vector<int>, value, hash> numbers_;
  std::vector<std::vector<int> const*> terms_;
};

/// The operations of training, each of which tells apart everything that a real stage could make something of.
class training_terms {
 public:
  value input(int m) { return make({0, m}); }
  value initial_weights(int s) { return make({1, s}); }
  value output(int s, int m, value input, value weights) { return make({2, s, m, input, weights}); }
  /// What a forward keeps for backward (or for running again).
  value saved(int s, int m, value input, value weights) { return make({3, s, m, input, weights}); }
  /// What backward needs besides where a forward is run again, made then or by the first forward.
  value activations(int s, int m, value input, value saved, value weights) {
    return make({4, s, m, input, saved, weights});
  }

  struct backward_reads {
    value weights, input, saved, activations, output_gradient;
  };
  value input_gradient(int s, int m, backward_reads const& r) {
    return make({5, s, m, r.weights, r.input, r.saved, r.activations, r.output_gradient});
  }
  value weight_gradient(int s, int m, backward_reads const& r) {
    return make({6, s, m, r.weights, r.input, r.saved, r.activations, r.output_gradient});
  }
  /// A sum has no order; doubled summands stay visible.
  value sum(std::vector<value> summands) {
    std::sort(summands.begin(), summands.end());
    return list(7, std::move(summands));
  }
  value facts_of_stage(int s, value gradient, value tied_gradient) { return make({8, s, gradient, tied_gradient}); }
  value facts_of_rank(std::vector<value> stages) { return list(9, std::move(stages)); }
  value verdict(std::vector<value> ranks) { return list(10, std::move(ranks)); }
  value updated(int s, value weights, value gradient, value tied_gradient, value verdict) {
    return make({11, s, weights, gradient, tied_gradient, verdict});
  }
  /// Whether a value was made by an operation for that stage and micro-batch, from whatever.
  bool is_output(value v, int s, int m) const { return is(v, 2, s, m) || (s == -1 && is_input(v, m)); }
  bool is_saved(value v, int s, int m) const { return is(v, 3, s, m); }
  bool is_activations(value v, int s, int m) const { return is(v, 4, s, m); }
  bool is_input_gradient(value v, int s, int m) const { return is(v, 5, s, m); }
  /// A value that equals no other: a buffer that may be written at any moment.
  value unknown() { return make({12, ++unknowns_}); }

 private:
  bool is_input(value v, int m) const {
    auto const& term = make.operation_and_operands(v);
    return term[0] == 0 && term[1] == m;
  }
  bool is(value v, int operation, int s, int m) const {
    auto const& term = make.operation_and_operands(v);
    return term[0] == operation && term[1] == s && term[2] == m;
  }
  value list(int operation, std::vector<value> items) {
    items.insert(items.begin(), operation);
    return make(std::move(items));
  }
  term_table make;
  int unknowns_ = 0;
};

}  // namespace support
