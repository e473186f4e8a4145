// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <utility>

#include <pipewright/gpt2/backend.hpp>
#include <pipewright/gpt2/boundary.hpp>
#include <pipewright/gpt2/check_tokens.hpp>
#include <pipewright/gpt2/configuration.hpp>
#include <pipewright/gpt2/parameters.hpp>
#include <pipewright/gpt2/tensors.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0::gpt2 {

/// GPT-2's first layer: token plus position embedding, and dropout. All of its backward is the weight half.
template<backend Backend>
class embedding {
 public:
  using input = token_batch;
  using input_gradient = nothing;
  using output = activations<Backend>;
  using weights = parameter_set<typename Backend::weight_memory>;
  using gradients = parameter_set<typename Backend::gradient_memory>;
  struct saved {
    batch_shape batch{};
    typename Backend::token_ids tokens;

    void for_each_part(auto&& visit) {
      visit(batch);
      visit(tokens);
    }
  };
  enum parameter_index { wte, wpe };

  explicit embedding(configuration const& c, Backend on = {}) : configuration_(c), on_(std::move(on)) { check(c); }

  void initialize(auto const& context, weights& w) const {
    w = weights(embedding_tensors(configuration_));
    w.initialize(context.seed);
  }

  /// Throws error where a token is outside the vocabulary or a sequence is longer than the positions.
  void forward(auto& context, weights const& w, input const& x, output& y, saved& keep) {
    check_tokens(x, configuration_);
    y.reshape(x.batch, configuration_.width);
    keep.batch = x.batch;
    on_.place(x.ids, keep.tokens, context.training);
    on_.embed(keep.tokens, w[wte], w[wpe], x.batch, configuration_.width, mask(context), y.values.data());
  }

  void backward(auto& context, weights const& w, saved& keep, output const& dy, input_gradient&, gradients& g) {
    backward_weight(context, w, keep, dy, g);
  }
  void backward_input(auto&, weights const&, saved&, output const&, input_gradient&) {}
  void backward_weight(auto& context, weights const&, saved& keep, output const& dy, gradients& g) {
    on_.embed_backward_weights(keep.tokens, dy.values.data(), keep.batch, configuration_.width, mask(context), g[wte],
                               g[wpe]);
  }

 private:
  [[nodiscard]] auto mask(auto const& context) const -> keyed_dropout {
    return make_dropout(context, dropout_site::embedding, configuration_.embedding_dropout);
  }

  configuration configuration_;
  Backend on_;
};

}  // namespace pipewright::inline v0::gpt2
