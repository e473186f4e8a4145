// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/gpt2/model.hpp>
#include <pipewright/stage/chain.hpp>
#include <pipewright/stage/parameters.hpp>
#include <pipewright/stage/repeated_layers.hpp>

namespace test {

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
using backend = gpt2::host_backend;
using all_layers = pw::chain<gpt2::embedding<backend>, pw::repeated_layers<gpt2::block<backend>>, gpt2::head<backend>>;

/// A GPT-2 in one piece, which the tests drive by hand.
struct whole_model {
  gpt2::configuration configuration;
  all_layers stage;
  all_layers::weights weights;
  all_layers::gradients gradients;
  all_layers::saved saved;

  explicit whole_model(gpt2::configuration const& c, pw::stage_context const& context = {},
                       gpt2::token_loss over = gpt2::token_loss::mean)
      : configuration(c), stage(make(c, over)) {
    stage.initialize(context, weights);
    clear();
  }
  void clear() { gradients = pw::make_gradients<all_layers>(weights); }

  static auto make(gpt2::configuration const& c, gpt2::token_loss over) -> all_layers {
    std::vector<gpt2::block<backend>> blocks;
    for (int i = 0; i < c.layers; ++i) blocks.emplace_back(c, i);
    return all_layers(gpt2::embedding<backend>(c), pw::repeated_layers(std::move(blocks)),
                      gpt2::head<backend>(c, over));
  }

  auto forward(pw::stage_context context, gpt2::token_batch const& x, gpt2::token_batch const& t) -> pw::loss {
    return stage.forward(context, weights, x, t, saved);
  }
  void backward(pw::stage_context context) {
    pw::nothing none;
    stage.backward(context, weights, saved, none, gradients);
  }
  void backward_in_halves(pw::stage_context context) {
    pw::nothing none;
    stage.backward_input(context, weights, saved, none);
    stage.backward_weight(context, weights, saved, gradients);
  }
};

/// Every tensor by name.
inline auto by_name(auto& parameters) -> std::map<std::string, std::vector<float>> {
  std::map<std::string, std::vector<float>> all;
  parameters.for_each_parameter([&](std::string_view name, auto values, pw::parameter_options) {
    all.emplace(name, std::vector<float>(values.begin(), values.end()));
  });
  return all;
}

}  // namespace test
