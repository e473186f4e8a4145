// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <utility>

#include <pipewright/gpt2/backend.hpp>
#include <pipewright/gpt2/boundary.hpp>
#include <pipewright/gpt2/configuration.hpp>
#include <pipewright/gpt2/parameters.hpp>
#include <pipewright/gpt2/tensors.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0::gpt2 {

/// One transformer block of GPT-2: x + attention(norm(x)), then that + mlp(norm(that)). The residual sum alone crosses
/// the boundary; the receiver norms it.
///
/// Backward in halves. The input half overwrites what only it reads (the queries, keys and values, the middle of the
/// residual stream, the values before gelu) with their gradients, so that a weight half put off holds no more memory
/// than a backward not yet run. The norms' weight gradients come with the input half and are added in the weight half.
template<backend Backend>
class block {
  using value = typename Backend::value;
  using values = typename Backend::values;
  using numbers = typename Backend::numbers;

 public:
  using input = activations<Backend>;
  using output = activations<Backend>;
  using weights = parameter_set<typename Backend::weight_memory>;
  using gradients = parameter_set<typename Backend::gradient_memory>;
  static constexpr bool keeps_input = true;

  enum parameter_index {
    ln_1_weight,
    ln_1_bias,
    c_attn_weight,
    c_attn_bias,
    attn_c_proj_weight,
    attn_c_proj_bias,
    ln_2_weight,
    ln_2_bias,
    c_fc_weight,
    c_fc_bias,
    mlp_c_proj_weight,
    mlp_c_proj_bias
  };

  /// Per token: 15 width values and heads + 4 numbers, and 4 width numbers for the norms' weight gradients.
  struct saved {
    batch_shape batch{};
    value const* x = nullptr;  ///< the input, which stays
    values norm_1, norm_2;     ///< width a token
    values qkv;                ///< 3 width; after the input half its gradient
    values attended;           ///< width
    numbers log_sum_exp;       ///< heads
    values middle;             ///< width, the residual stream between attention and mlp; later its gradient
    values before_gelu;        ///< 4 width; later its gradient
    values after_gelu;         ///< 4 width
    numbers statistics;        ///< mean and reciprocal deviation of both norms
    numbers norm_gradients;    ///< of ln_1 and ln_2's weight and bias, for this micro-batch

    void for_each_part(auto&& visit) {
      for (auto* each : {&norm_1, &norm_2, &qkv, &attended, &middle, &before_gelu, &after_gelu}) visit(*each);
      for (auto* each : {&log_sum_exp, &statistics, &norm_gradients}) visit(*each);
    }
  };

  /// `index` is the block's number in the model, from 0: it names the parameters.
  block(configuration const& c, int index, Backend on = {}) : configuration_(c), index_(index), on_(std::move(on)) {
    check(c);
  }

  void initialize(auto const& context, weights& w) const {
    w = weights(block_tensors(configuration_, index_));
    w.initialize(context.seed);
  }

  void forward(auto& context, weights const& w, input const& x, output& y, saved& keep) {
    auto const n = sizes(x.batch);
    reserve(n, keep);
    keep.batch = x.batch;
    keep.x = x.values.data();
    y.reshape(x.batch, n.width);
    auto const [branch, attending] = scratch(n);
    auto* const s = keep.statistics.data();
    on_.layer_norm(keep.x, w[ln_1_weight], w[ln_1_bias], n.stream(), keep.norm_1.data(), s, s + n.tokens);
    on_.linear(keep.norm_1.data(), w[c_attn_weight], w[c_attn_bias], n.to_qkv(), keep.qkv.data());
    on_.attention(keep.qkv.data(), n.attention, mask(context, dropout_site::attention), attending, keep.attended.data(),
                  keep.log_sum_exp.data());
    on_.linear(keep.attended.data(), w[attn_c_proj_weight], w[attn_c_proj_bias], n.project(), branch);
    on_.add_layer_norm(keep.x, branch, mask(context, dropout_site::attention_projection), w[ln_2_weight], w[ln_2_bias],
                       n.stream(), keep.middle.data(), keep.norm_2.data(), s + 2 * n.tokens, s + 3 * n.tokens);
    on_.linear_gelu(keep.norm_2.data(), w[c_fc_weight], w[c_fc_bias], n.widen(), keep.before_gelu.data(),
                    keep.after_gelu.data());
    on_.linear(keep.after_gelu.data(), w[mlp_c_proj_weight], w[mlp_c_proj_bias], n.narrow(), branch);
    on_.add_dropout(keep.middle.data(), branch, n.stream().size(), mask(context, dropout_site::mlp_projection),
                    y.values.data());
  }

  void backward(auto& context, weights const& w, saved& keep, output const& dy, input& dx, gradients& g) {
    backward_input(context, w, keep, dy, dx);
    backward_weight(context, w, keep, dy, g);
  }

  void backward_input(auto& context, weights const& w, saved& keep, output const& dy, input& dx) {
    auto const n = sizes(keep.batch);
    dx.reshape(keep.batch, n.width);
    auto const [wide, attending] = scratch(n);
    auto* const narrow = dx.values.data();  // the gradient of the input is written last: until then it is scratch
    auto const* const s = keep.statistics.data();
    auto* const norm_gradients = keep.norm_gradients.data();
    auto const* branch = dropped(context, dropout_site::mlp_projection, dy.values.data(), n, narrow);
    on_.linear_gelu_backward_input(branch, w[mlp_c_proj_weight], keep.before_gelu.data(), n.narrow(), wide,
                                   keep.before_gelu.data());
    on_.linear_backward_input(keep.before_gelu.data(), w[c_fc_weight], n.widen(), narrow);
    on_.layer_norm_backward(keep.middle.data(), s + 2 * n.tokens, s + 3 * n.tokens, w[ln_2_weight], narrow,
                            dy.values.data(), n.stream(), keep.middle.data(), norm_gradients + 2 * n.width,
                            norm_gradients + 3 * n.width);
    branch = dropped(context, dropout_site::attention_projection, keep.middle.data(), n, narrow);
    on_.linear_backward_input(branch, w[attn_c_proj_weight], n.project(), wide);
    on_.attention_backward(keep.qkv.data(), keep.attended.data(), keep.log_sum_exp.data(), wide, n.attention,
                           mask(context, dropout_site::attention), attending, keep.qkv.data());
    on_.linear_backward_input(keep.qkv.data(), w[c_attn_weight], n.to_qkv(), narrow);
    on_.layer_norm_backward(keep.x, s, s + n.tokens, w[ln_1_weight], narrow, keep.middle.data(), n.stream(), narrow,
                            norm_gradients, norm_gradients + n.width);
  }

  void backward_weight(auto& context, weights const&, saved& keep, output const& dy, gradients& g) {
    auto const n = sizes(keep.batch);
    auto const width = static_cast<std::size_t>(n.width);
    auto* const undropped = scratch(n).wide;
    auto const* const norm_gradients = keep.norm_gradients.data();
    auto const* branch = dropped(context, dropout_site::mlp_projection, dy.values.data(), n, undropped);
    on_.linear_backward_weights(keep.after_gelu.data(), branch, n.narrow(), g[mlp_c_proj_weight], g[mlp_c_proj_bias]);
    on_.linear_backward_weights(keep.norm_2.data(), keep.before_gelu.data(), n.widen(), g[c_fc_weight], g[c_fc_bias]);
    on_.accumulate(norm_gradients + 2 * width, width, g[ln_2_weight]);
    on_.accumulate(norm_gradients + 3 * width, width, g[ln_2_bias]);
    branch = dropped(context, dropout_site::attention_projection, keep.middle.data(), n, undropped);
    on_.linear_backward_weights(keep.attended.data(), branch, n.project(), g[attn_c_proj_weight], g[attn_c_proj_bias]);
    on_.linear_backward_weights(keep.norm_1.data(), keep.qkv.data(), n.to_qkv(), g[c_attn_weight], g[c_attn_bias]);
    on_.accumulate(norm_gradients, width, g[ln_1_weight]);
    on_.accumulate(norm_gradients + width, width, g[ln_1_bias]);
  }

 private:
  struct all_sizes {
    int tokens;
    int width;
    attention_shape attention;

    [[nodiscard]] constexpr auto stream() const -> row_shape { return {tokens, width}; }
    [[nodiscard]] constexpr auto to_qkv() const -> linear_shape { return {tokens, width, 3 * width}; }
    [[nodiscard]] constexpr auto project() const -> linear_shape { return {tokens, width, width}; }
    [[nodiscard]] constexpr auto widen() const -> linear_shape { return {tokens, width, 4 * width}; }
    [[nodiscard]] constexpr auto narrow() const -> linear_shape { return {tokens, 4 * width, width}; }
  };

  [[nodiscard]] auto sizes(batch_shape b) const -> all_sizes {
    return {b.tokens(), configuration_.width, {b.sequences, b.length, configuration_.heads, configuration_.width}};
  }

  /// Makes room; allocates the first time and where a micro-batch is larger than those before.
  void reserve(all_sizes const& n, saved& keep) {
    auto const stream = n.stream().size();
    keep.norm_1.resize(stream);
    keep.norm_2.resize(stream);
    keep.qkv.resize(3 * stream);
    keep.attended.resize(stream);
    keep.log_sum_exp.resize(row_shape{n.tokens, n.attention.heads}.size());
    keep.middle.resize(stream);
    keep.before_gelu.resize(4 * stream);
    keep.after_gelu.resize(4 * stream);
    keep.statistics.resize(row_shape{n.tokens, 4}.size());
    keep.norm_gradients.resize(row_shape{4, n.width}.size());
  }

  struct room {
    value* wide;  // of 4 values for each of the stream
    value* attention;
  };
  [[nodiscard]] auto scratch(all_sizes const& n) -> room {
    auto const wide = (4 * n.stream().size() + 15) / 16 * 16;  // so that both begin on a cache line
    auto* const all = on_.scratch(wide + on_.attention_scratch(n.attention));
    return {all, all + wide};
  }

  [[nodiscard]] auto mask(auto const& context, dropout_site site) const -> keyed_dropout {
    auto const p = site == dropout_site::attention ? configuration_.attention_dropout : configuration_.residual_dropout;
    return make_dropout(context, site, p);
  }

  /// The gradient of a branch from that of the residual stream: itself where nothing is dropped, else made in `to`.
  auto dropped(auto const& context, dropout_site site, value const* gradient, all_sizes const& n, value* to)
      -> value const* {
    auto const m = mask(context, site);
    if (!m) return gradient;
    on_.dropout_backward(gradient, n.stream().size(), m, to);
    return to;
  }

  configuration configuration_;
  int index_;
  Backend on_;
};

}  // namespace pipewright::inline v0::gpt2
