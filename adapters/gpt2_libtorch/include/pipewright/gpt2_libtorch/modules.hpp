// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <pipewright/gpt2/boundary.hpp>
#include <pipewright/gpt2/check_tokens.hpp>
#include <pipewright/gpt2/configuration.hpp>
#include <pipewright/gpt2/dropout.hpp>
#include <pipewright/gpt2/head.hpp>
#include <pipewright/libtorch/random.hpp>
#include <pipewright/libtorch/summing.hpp>

/// GPT-2 as torch's modules, with Hugging Face's names and layouts; its dropout has the host GPT-2's masks.
namespace pipewright::inline v0::gpt2_libtorch {

namespace detail {

/// Dropout of a module: keyed by the stage that runs it in training, nothing where it evaluates.
inline auto dropped(torch::nn::Module const& by, at::Tensor const& x, gpt2::dropout_site site, float probability)
    -> at::Tensor {
  if (!by.is_training()) return x;
  return libtorch::keyed_dropout(x, static_cast<std::uint32_t>(site), static_cast<double>(probability));
}

/// Token numbers as torch indexes with them, on a device.
inline auto ids_of(gpt2::token_batch const& tokens, at::Device on) -> at::Tensor {
  auto const count = static_cast<std::int64_t>(tokens.ids.size());
  auto made = torch::empty({count}, torch::kLong);
  std::copy(tokens.ids.begin(), tokens.ids.end(), made.mutable_data_ptr<std::int64_t>());
  return made.to(on);
}

/// A module with a weight and, where it has one, a bias, by Hugging Face's names.
struct affine : torch::nn::Module {
  at::Tensor weight, bias;

  affine(char const* name, at::IntArrayRef weight_sizes, std::int64_t bias_size)
      : torch::nn::Module(name), weight{register_parameter("weight", torch::zeros(weight_sizes))} {
    if (bias_size > 0) bias = register_parameter("bias", torch::zeros({bias_size}));
  }
};

struct layer_norm : affine {
  explicit layer_norm(int width) : affine("LayerNorm", {width}, width) {}
  auto forward(at::Tensor const& x) const -> at::Tensor {
    return torch::layer_norm(x, weight.sizes(), weight, bias, 1e-5);
  }
};

/// Hugging Face's Conv1D: y = x w + b, w is in x out.
struct conv_1d : affine {
  conv_1d(int in, int out) : affine("Conv1D", {in, out}, out) {}
  auto forward(at::Tensor const& x) const -> at::Tensor { return libtorch::affine(x, weight, bias); }
};

/// Queries, keys and values out of their common product, sequences x heads x length x extent of a head each: one node of the
/// graph instead of five, and backward puts the three gradients beside one another once.
struct apart : torch::autograd::Function<apart> {
  static auto forward(torch::autograd::AutogradContext*, at::Tensor const& x, std::int64_t heads)
      -> torch::autograd::variable_list {
    at::AutoDispatchBelowADInplaceOrView const without_graph;
    return x.view({x.size(0), x.size(1), 3, heads, -1}).permute({2, 0, 3, 1, 4}).unbind();
  }
  static auto backward(torch::autograd::AutogradContext*, torch::autograd::variable_list const& gradients)
      -> torch::autograd::variable_list {
    at::AutoDispatchBelowADInplaceOrView const without_graph;
    auto const& dq = gradients[0];
    std::array const parts{dq.transpose(1, 2), gradients[1].transpose(1, 2), gradients[2].transpose(1, 2)};
    return {at::stack(parts, 2).view({dq.size(0), dq.size(2), -1}), {}};
  }
};

/// The heads' results beside one another, sequences x length x width.
struct together : torch::autograd::Function<together> {
  static auto forward(torch::autograd::AutogradContext* graph, at::Tensor const& x) -> at::Tensor {
    at::AutoDispatchBelowADInplaceOrView const without_graph;
    graph->saved_data["heads"] = x.size(1);
    return x.transpose(1, 2).reshape({x.size(0), x.size(2), -1});
  }
  static auto backward(torch::autograd::AutogradContext* graph, torch::autograd::variable_list const& gradients)
      -> torch::autograd::variable_list {
    at::AutoDispatchBelowADInplaceOrView const without_graph;
    auto const& dy = gradients[0];
    return {dy.reshape({dy.size(0), dy.size(1), graph->saved_data.at("heads").toInt(), -1}).transpose(1, 2)};
  }
};

struct attention : torch::nn::Module {
  std::shared_ptr<conv_1d> c_attn, c_proj;
  gpt2::configuration sizes;

  explicit attention(gpt2::configuration const& c)
      : torch::nn::Module("GPT2Attention"),
        c_attn{register_module("c_attn", std::make_shared<conv_1d>(c.width, 3 * c.width))},
        c_proj{register_module("c_proj", std::make_shared<conv_1d>(c.width, c.width))},
        sizes{c} {}

  /// x is sequences x length x width. Without dropout torch's fused attention; with it the probabilities are made.
  auto forward(at::Tensor const& x) const -> at::Tensor {
    auto const length = x.size(1);
    auto const parts = apart::apply(c_attn->forward(x), sizes.heads);
    auto const &q = parts[0], &k = parts[1], &v = parts[2];
    at::Tensor attended;
    if (sizes.attention_dropout > 0 && is_training()) {
      auto const seen = torch::ones({length, length}, q.options().dtype(at::kBool)).tril();
      auto const scores = torch::matmul(q, k.transpose(-2, -1)) / std::sqrt(static_cast<double>(q.size(-1)));
      auto const shares =
          torch::softmax(scores.masked_fill(seen.logical_not(), -std::numeric_limits<double>::infinity()), -1);
      attended = torch::matmul(dropped(*this, shares, gpt2::dropout_site::attention, sizes.attention_dropout), v);
    } else {
      attended = torch::scaled_dot_product_attention(q, k, v, {}, 0.0, true);
    }
    return c_proj->forward(together::apply(attended));
  }
};

struct mlp : torch::nn::Module {
  std::shared_ptr<conv_1d> c_fc, c_proj;

  explicit mlp(int width)
      : torch::nn::Module("GPT2MLP"),
        c_fc{register_module("c_fc", std::make_shared<conv_1d>(width, 4 * width))},
        c_proj{register_module("c_proj", std::make_shared<conv_1d>(4 * width, width))} {}
  auto forward(at::Tensor const& x) const -> at::Tensor {
    return c_proj->forward(torch::gelu(c_fc->forward(x), "tanh"));
  }
};

}  // namespace detail

/// Token plus position embedding, and dropout: sequences x length x width.
struct embedding : torch::nn::Module {
  std::shared_ptr<detail::affine> wte, wpe;
  gpt2::configuration sizes;

  explicit embedding(gpt2::configuration const& c)
      : torch::nn::Module("GPT2Embedding"),
        wte{register_module("wte",
                            std::make_shared<detail::affine>("Embedding", at::IntArrayRef{c.vocabulary, c.width}, 0))},
        wpe{register_module("wpe",
                            std::make_shared<detail::affine>("Embedding", at::IntArrayRef{c.positions, c.width}, 0))},
        sizes{c} {}

  /// Throws error where a token is outside the vocabulary or a sequence is longer than the positions.
  auto forward(gpt2::token_batch const& tokens) const -> at::Tensor {
    gpt2::check_tokens(tokens, sizes);
    auto const rows = libtorch::embedding(wte->weight, detail::ids_of(tokens, wte->weight.device()))
                          .view({tokens.batch.sequences, tokens.batch.length, -1});
    return detail::dropped(*this, rows + wpe->weight.slice(0, 0, tokens.batch.length), gpt2::dropout_site::embedding,
                           sizes.embedding_dropout);
  }
};

/// One transformer block: x + attention(norm(x)), then that + mlp(norm(that)).
struct block : torch::nn::Module {
  std::shared_ptr<detail::layer_norm> ln_1;
  std::shared_ptr<detail::attention> attn;
  std::shared_ptr<detail::layer_norm> ln_2;
  std::shared_ptr<detail::mlp> mlp;
  float dropout;

  explicit block(gpt2::configuration const& c)
      : torch::nn::Module("GPT2Block"),
        ln_1{register_module("ln_1", std::make_shared<detail::layer_norm>(c.width))},
        attn{register_module("attn", std::make_shared<detail::attention>(c))},
        ln_2{register_module("ln_2", std::make_shared<detail::layer_norm>(c.width))},
        mlp{register_module("mlp", std::make_shared<detail::mlp>(c.width))},
        dropout{c.residual_dropout} {}

  auto forward(at::Tensor const& x) const -> at::Tensor {
    using enum gpt2::dropout_site;
    auto const middle = x + detail::dropped(*this, attn->forward(ln_1->forward(x)), attention_projection, dropout);
    return middle + detail::dropped(*this, mlp->forward(ln_2->forward(middle)), mlp_projection, dropout);
  }
};

/// The final norm and the projection onto the vocabulary.
struct head : torch::nn::Module {
  std::shared_ptr<detail::layer_norm> ln_f;
  std::shared_ptr<detail::affine> lm_head;
  gpt2::configuration sizes;
  gpt2::token_loss over;

  explicit head(gpt2::configuration const& c, gpt2::token_loss of)
      : torch::nn::Module("GPT2Head"),
        ln_f{register_module("ln_f", std::make_shared<detail::layer_norm>(c.width))},
        lm_head{register_module("lm_head",
                                std::make_shared<detail::affine>("Linear", at::IntArrayRef{c.vocabulary, c.width}, 0))},
        sizes{c},
        over{of} {}

  /// A row for each token of x.
  auto logits(at::Tensor const& x) const -> at::Tensor {
    return libtorch::affine(ln_f->forward(x).view({-1, x.size(-1)}), lm_head->weight, std::nullopt, true);
  }

  /// The cross entropy of the targets that count, and how many those are. A negative target does not.
  auto forward(at::Tensor const& x, gpt2::token_batch const& targets) const -> std::pair<at::Tensor, int> {
    auto const counted =
        gpt2::check_targets(targets, {static_cast<int>(x.size(0)), static_cast<int>(x.size(1))}, sizes);
    auto const rows = logits(x);
    auto const wide = rows.scalar_type() == at::kDouble ? rows : rows.to(at::kFloat);
    auto const ids = detail::ids_of(targets, rows.device()).clamp_min(-1);
    auto total = torch::cross_entropy_loss(wide, ids, {}, at::Reduction::Sum, -1);
    if (over == gpt2::token_loss::mean) total = total / std::max(counted, 1);
    return {total, counted};
  }
};

}  // namespace pipewright::inline v0::gpt2_libtorch
