// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <utility>

#include <pipewright/gpt2/backend.hpp>
#include <pipewright/gpt2/boundary.hpp>
#include <pipewright/gpt2/check_tokens.hpp>
#include <pipewright/gpt2/configuration.hpp>
#include <pipewright/gpt2/parameters.hpp>
#include <pipewright/gpt2/tensors.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0::gpt2 {

/// What the head's loss is over a micro-batch's tokens: their mean, or their sum (for a scale per token).
enum class token_loss { mean, sum };

/// GPT-2's last layer: the final norm, the projection onto the vocabulary and the cross entropy. The forward writes the
/// gradient of the logits over the logits, which saves keeping both; their weight half should follow the input half at
/// once, since they are vocabulary values a token.
///
/// The projection is a copy of the token embedding: `lm_head.weight` starts with the values of `wte.weight` under the
/// same seed. Whether the two stay equal (tied) is the pipeline's to keep.
template<backend Backend>
class head {
  using value = typename Backend::value;
  using values = typename Backend::values;
  using numbers = typename Backend::numbers;

 public:
  using input = activations<Backend>;
  using target = token_batch;
  using weights = parameter_set<typename Backend::weight_memory>;
  using gradients = parameter_set<typename Backend::gradient_memory>;
  static constexpr bool keeps_input = true;

  enum parameter_index { ln_f_weight, ln_f_bias, lm_head_weight };

  /// Per token: width + logits_stride values and 3 numbers, and 2 width numbers for the norm's weight gradients.
  struct saved {
    batch_shape batch{};
    value const* x = nullptr;  ///< the input, which stays
    values norm;
    values d_logits;  ///< the gradient of the loss with respect to the logits
    numbers statistics;
    numbers losses;
    numbers norm_gradients;

    void for_each_part(auto&& visit) {
      for (auto* each : {&norm, &d_logits}) visit(*each);
      for (auto* each : {&statistics, &losses, &norm_gradients}) visit(*each);
    }
  };

  explicit head(configuration const& c, token_loss over = token_loss::mean, Backend on = {})
      : configuration_(c), over_(over), on_(std::move(on)) {
    check(c);
  }

  void initialize(auto const& context, weights& w) const {
    w = weights(head_tensors(configuration_));
    w.initialize(context.seed);
  }

  /// Throws error where a target is outside the vocabulary or the targets are not one a token.
  auto forward(auto& context, weights const& w, input const& x, target const& t, saved& keep) -> loss {
    auto const counted = check_targets(t, x.batch, configuration_);
    project(w, x, keep);
    auto const divisor = over_ == token_loss::sum ? 1 : std::max(counted, 1);
    on_.place(t.ids, targets_, false);
    on_.classify(keep.d_logits.data(), targets_, {x.batch.tokens(), configuration_.vocabulary},
                 1.f / static_cast<float>(divisor), keep.losses.data());
    auto total = on_.total_loss(keep.losses.data(), t.ids.size(), context.micro_batch);
    total.value /= divisor;
    total.weight = counted;
    return total;
  }

  /// The logits of every token, in keep.d_logits: what sampling a text needs.
  void project(weights const& w, input const& x, saved& keep) {
    auto const c = configuration_;
    auto const tokens = x.batch.tokens();
    auto const stream = row_shape{tokens, c.width};
    keep.batch = x.batch;
    keep.x = x.values.data();
    keep.norm.resize(stream.size());
    keep.d_logits.resize(row_shape{tokens, Backend::logits_stride(c.vocabulary)}.size());
    keep.statistics.resize(row_shape{tokens, 2}.size());
    keep.losses.resize(static_cast<std::size_t>(tokens));
    keep.norm_gradients.resize(row_shape{2, c.width}.size());
    on_.layer_norm(keep.x, w[ln_f_weight], w[ln_f_bias], stream, keep.norm.data(), keep.statistics.data(),
                   keep.statistics.data() + tokens);
    on_.logits(keep.norm.data(), w[lm_head_weight], projection(x.batch), keep.d_logits.data());
  }

  void backward(auto& context, weights const& w, saved& keep, input& dx, gradients& g) {
    backward_input(context, w, keep, dx);
    backward_weight(context, w, keep, g);
  }

  void backward_input(auto&, weights const& w, saved& keep, input& dx) {
    auto const tokens = keep.batch.tokens();
    auto const width = configuration_.width;
    dx.reshape(keep.batch, width);
    auto* const to = dx.values.data();
    on_.logits_backward_input(keep.d_logits.data(), w[lm_head_weight], projection(keep.batch), to);
    on_.layer_norm_backward(keep.x, keep.statistics.data(), keep.statistics.data() + tokens, w[ln_f_weight], to,
                            nullptr, {tokens, width}, to, keep.norm_gradients.data(),
                            keep.norm_gradients.data() + width);
  }

  void backward_weight(auto&, weights const&, saved& keep, gradients& g) {
    auto const width = static_cast<std::size_t>(configuration_.width);
    on_.logits_backward_weights(keep.norm.data(), keep.d_logits.data(), projection(keep.batch), g[lm_head_weight]);
    on_.accumulate(keep.norm_gradients.data(), width, g[ln_f_weight]);
    on_.accumulate(keep.norm_gradients.data() + width, width, g[ln_f_bias]);
  }

 private:
  [[nodiscard]] auto projection(batch_shape b) const -> linear_shape {
    return {b.tokens(), configuration_.width, configuration_.vocabulary};
  }

  configuration configuration_;
  token_loss over_;
  Backend on_;
  typename Backend::token_ids targets_;
};

}  // namespace pipewright::inline v0::gpt2
