// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/boundary.hpp>
#include <pipewright/gpt2/configuration.hpp>

namespace pipewright::inline v0::gpt2 {

/// Throws error where a token is outside the vocabulary, a sequence is longer than the positions, or tokens are missing.
inline void check_tokens(token_batch const& x, configuration const& c) {
  if (x.batch.length > c.positions) {
    throw error("GPT-2: a sequence of " + std::to_string(x.batch.length) + " tokens does not fit " +
                std::to_string(c.positions) + " positions; shorten it or give the model more");
  }
  if (static_cast<int>(x.ids.size()) != x.batch.tokens()) {
    throw error("GPT-2: " + std::to_string(x.ids.size()) + " token ids for " + std::to_string(x.batch.sequences) +
                " x " + std::to_string(x.batch.length) + " tokens");
  }
  for (auto const id : x.ids) {
    if (id < 0 || id >= c.vocabulary) {
      throw error("GPT-2: token " + std::to_string(id) + " is outside the vocabulary of " +
                  std::to_string(c.vocabulary));
    }
  }
}

/// How many targets count. Throws error where one is outside the vocabulary, or they are not one a token.
[[nodiscard]] inline auto check_targets(token_batch const& t, batch_shape tokens, configuration const& c) -> int {
  if (static_cast<int>(t.ids.size()) != tokens.tokens()) {
    throw error("GPT-2: " + std::to_string(t.ids.size()) + " targets for " + std::to_string(tokens.tokens()) +
                " tokens; the head needs the next token of every place");
  }
  auto counted = 0;
  for (auto const id : t.ids) {
    if (id >= c.vocabulary) {
      throw error("GPT-2: target " + std::to_string(id) + " is outside the vocabulary of " +
                  std::to_string(c.vocabulary));
    }
    counted += id >= 0;
  }
  return counted;
}

}  // namespace pipewright::inline v0::gpt2
