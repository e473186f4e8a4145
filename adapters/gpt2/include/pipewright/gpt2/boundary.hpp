// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <vector>

#include <pipewright/gpt2/shapes.hpp>

namespace pipewright::inline v0::gpt2 {

/// Token numbers of one micro-batch, sequence after sequence: what the embedding takes, and (each the next token of
/// its place; a negative one is not counted) the head's target.
struct token_batch {
  batch_shape batch{};
  std::vector<std::int32_t> ids;

  void for_each_part(auto&& visit) {
    visit(batch);
    visit(ids);
  }
};

/// What layers hand to one another: the residual stream, tokens x width; and its gradient.
template<class Backend>
struct activations {
  batch_shape batch{};
  typename Backend::values values;

  /// Makes room for `s.sequences` x `s.length` tokens of `width` values. Allocates only where it grows.
  void reshape(batch_shape s, int width) {
    batch = s;
    values.resize(row_shape{s.tokens(), width}.size());
  }

  void for_each_part(auto&& visit) {
    visit(batch);
    visit(values);
  }
};

}  // namespace pipewright::inline v0::gpt2
