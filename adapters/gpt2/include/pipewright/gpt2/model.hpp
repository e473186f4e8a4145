// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <pipewright/gpt2/block.hpp>
#include <pipewright/gpt2/configuration.hpp>
#include <pipewright/gpt2/embedding.hpp>
#include <pipewright/gpt2/head.hpp>
#include <pipewright/gpt2/host/backend.hpp>
#include <pipewright/stage/balance.hpp>

namespace pipewright::inline v0::gpt2 {

/// The recipe of a GPT-2 for `balance`: embedding, blocks, head, which are layers + 2 layers. Builds nothing; a rank
/// builds the layers that its cut gives it. Throws error where the configuration makes no GPT-2.
template<backend Backend = host_backend>
[[nodiscard]] auto model(configuration const& c, token_loss over = token_loss::mean) {
  check(c);
  return layers([c] { return embedding<Backend>(c); }, repeated([c](int i) { return block<Backend>(c, i); }, c.layers),
                [c, over] { return head<Backend>(c, over); });
}

static_assert(split_backward_stage<embedding<host_backend>>);
static_assert(split_backward_stage<block<host_backend>>);
static_assert(loss_stage<head<host_backend>> && split_backward_stage<head<host_backend>>);

}  // namespace pipewright::inline v0::gpt2
