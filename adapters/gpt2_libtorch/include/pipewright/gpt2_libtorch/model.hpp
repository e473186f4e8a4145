// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/gpt2/parameters.hpp>
#include <pipewright/gpt2/tensors.hpp>
#include <pipewright/gpt2_libtorch/modules.hpp>
#include <pipewright/libtorch/stage.hpp>
#include <pipewright/partition/named_cut.hpp>
#include <pipewright/stage/balance.hpp>

namespace pipewright::inline v0::gpt2_libtorch {

using embedding_stage = libtorch::stage<gpt2::token_batch, libtorch::tensor>;
using block_stage = libtorch::stage<libtorch::tensor>;
using head_stage = libtorch::loss_stage<libtorch::tensor, gpt2::token_batch>;

namespace detail {

/// How a layer's parameters are named, and that they start with the host GPT-2's first values of the same seed.
inline auto options_of(std::string prefix, std::vector<gpt2::parameter> tensors) -> libtorch::module_options {
  libtorch::module_options options{.prefix = std::move(prefix)};
  options.initialize = [tensors = std::move(tensors)](stage_context const& context, std::string_view name,
                                                      at::Tensor& to) {
    for (auto const& p : tensors) {
      if (p.name != name) continue;
      auto const drawn = torch::empty(to.sizes(), torch::kFloat);
      gpt2::draw(p, context.seed, std::span(drawn.mutable_data_ptr<float>(), static_cast<std::size_t>(drawn.numel())));
      to.copy_(drawn);
      return;
    }
    throw error("GPT-2 has no parameter " + std::string(name));
  };
  return options;
}

template<class Module>
auto in(at::ScalarType dtype, at::Device device, Module module) -> Module {
  module->to(device, dtype);
  return module;
}

}  // namespace detail

/// The recipe of a GPT-2 for `balance`, of torch's modules: embedding, blocks, head. The same names, layouts, first values and
/// dropout masks as gpt2::model's, so that either loads what the other has saved. `dtype`: of the computation; half-precision
/// ones keep float weights. `device`: of every stage. Builds nothing. Throws error where the configuration makes no GPT-2.
[[nodiscard]] inline auto model(gpt2::configuration const& c, gpt2::token_loss over = gpt2::token_loss::mean,
                                at::ScalarType dtype = at::kFloat,
                                std::shared_ptr<libtorch::loss_scaler const> scaler = {},
                                at::Device device = at::kCPU) {
  gpt2::check(c);
  auto const options = [scaler](std::string prefix, std::vector<gpt2::parameter> tensors) {
    auto made = detail::options_of(std::move(prefix), std::move(tensors));
    made.scaler = scaler;
    return made;
  };
  return layers(
      [=] {
        return embedding_stage(detail::in(dtype, device, std::make_shared<embedding>(c)),
                               options("", gpt2::embedding_tensors(c)));
      },
      repeated(
          [=](int i) {
            auto of_block = options("h." + std::to_string(i) + ".", gpt2::block_tensors(c, i));
            of_block.inputs.push_back({.dtype = dtype, .sizes = {{-1, -1, c.width}}});
            return block_stage(detail::in(dtype, device, std::make_shared<block>(c)), std::move(of_block));
          },
          c.layers),
      [=] {
        return head_stage(detail::in(dtype, device, std::make_shared<head>(c, over)),
                          options("", gpt2::head_tensors(c)));
      });
}

/// The model's layers as a cut sees them (named_cut), without making one.
[[nodiscard]] inline auto summaries(gpt2::configuration const& c) -> std::vector<layer_summary> {
  auto const of = [](char const* type, std::vector<gpt2::parameter> const& tensors) {
    layer_summary made{.type = type};
    for (auto const& each : tensors) made.parameters += static_cast<double>(each.size());
    return made;
  };
  std::vector all{of("GPT2Embedding", gpt2::embedding_tensors(c))};
  for (int i = 0; i < c.layers; ++i) all.push_back(of("GPT2Block", gpt2::block_tensors(c, i)));
  all.push_back(of("GPT2Head", gpt2::head_tensors(c)));
  return all;
}

}  // namespace pipewright::inline v0::gpt2_libtorch
