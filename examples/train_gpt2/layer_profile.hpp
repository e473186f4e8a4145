// SPDX-License-Identifier: Apache-2.0
// What all layers of a GPT-2 take and hold, of either backend.
#pragma once

#include <utility>
#include <vector>

#include <pipewright/gpt2/configuration.hpp>
#include <pipewright/gpt2/parameters.hpp>
#include <pipewright/pipeline/optimizer.hpp>
#include <pipewright/profile/profile_layers.hpp>
#include <pipewright/stage/balance.hpp>

#include "repeated_tokens.hpp"

namespace trainer {

struct profile_request {
  pipewright::gpt2::configuration model;
  int sequences, length;
  bool adam;  ///< whose states are counted, else those of plain descent: none
  pipewright::profile_options how;
};

template<class Meter = pipewright::no_meter> pipewright::measured_profile profile_of(auto model,
                                                                                     profile_request const& r) {
  auto const count = static_cast<std::size_t>(pipewright::gpt2::layer_count(r.model));
  auto const layers = pipewright::balance(std::move(model), std::vector<int>(count, 1));
  repeated_tokens const batch{{r.sequences, r.length}, r.model.vocabulary};
  auto const measured = [&](auto const& optimizer) {
    return pipewright::profile_layers<Meter>(layers, batch, r.sequences, optimizer, r.how);
  };
  return r.adam ? measured(pipewright::adam{.rate = 1e-4}) : measured(pipewright::sgd{.rate = 1e-4});
}

}  // namespace trainer
