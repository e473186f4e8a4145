// SPDX-License-Identifier: Apache-2.0
// A batch for measuring: what tokens are costs nothing.
#pragma once

#include <algorithm>

#include <pipewright/gpt2/boundary.hpp>

namespace trainer {

/// The same tokens in every micro-batch, as targets too.
struct repeated_tokens {
  pipewright::gpt2::batch_shape of;
  int vocabulary;

  void input(int, pipewright::gpt2::token_batch& to) const {
    to.batch = of;
    to.ids.clear();
    for (int i = 0; i < of.tokens(); ++i) to.ids.push_back(i % std::min(251, vocabulary));
  }
  void target(int micro_batch, pipewright::gpt2::token_batch& to) const { input(micro_batch, to); }
};

}  // namespace trainer
