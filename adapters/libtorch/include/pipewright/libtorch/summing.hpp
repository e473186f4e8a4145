// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include <pipewright/libtorch/random.hpp>

namespace pipewright::inline v0::libtorch {

namespace detail {

/// Where a stage's backward adds up this parameter's gradient, if it may be added to there; else undefined. A graph that was
/// made outside of a stage leaves that to torch.
inline auto sum_of(torch::autograd::AutogradContext const& graph, at::Tensor const& parameter) -> at::Tensor {
  return graph.saved_data.at("of_a_stage").toBool() && parameter.is_leaf() ? parameter.grad() : at::Tensor();
}
inline void note_stage(torch::autograd::AutogradContext& graph) {
  graph.saved_data["of_a_stage"] = current_context() != nullptr;
}

struct summing_affine : torch::autograd::Function<summing_affine> {
  static auto forward(torch::autograd::AutogradContext* graph, at::Tensor const& x, at::Tensor const& weight,
                      std::optional<at::Tensor> const& bias, bool is_out_by_in) -> at::Tensor {
    graph->save_for_backward({x, weight});
    graph->saved_data["is_out_by_in"] = is_out_by_in;
    bool const has_bias = bias && bias->defined();
    graph->saved_data["has_bias"] = has_bias;
    note_stage(*graph);
    auto const w = is_out_by_in ? weight.t() : weight;
    return has_bias ? at::addmm(*bias, x, w) : at::mm(x, w);
  }
  static auto backward(torch::autograd::AutogradContext* graph, torch::autograd::variable_list const& gradients)
      -> torch::autograd::variable_list {
    auto const saved = graph->get_saved_variables();
    auto const &x = saved[0], &weight = saved[1], &dy = gradients[0];
    bool const is_out_by_in = graph->saved_data.at("is_out_by_in").toBool();
    at::Tensor dx, dw, db;
    if (graph->needs_input_grad(0)) dx = at::mm(dy, is_out_by_in ? weight : weight.t());
    if (graph->needs_input_grad(1)) {
      auto const left = is_out_by_in ? dy.t() : x.t();
      auto const& right = is_out_by_in ? x : dy;
      if (auto sum = sum_of(*graph, weight); sum.defined()) sum.addmm_(left, right);
      else dw = at::mm(left, right);
    }
    if (graph->saved_data.at("has_bias").toBool() && graph->needs_input_grad(2)) db = dy.sum(0);
    return {dx, dw, db, {}};
  }
};

struct summing_embedding : torch::autograd::Function<summing_embedding> {
  /// at::index_add_ takes a microsecond for each row.
  template<class Number> static void add_rows(at::Tensor const& rows, at::Tensor const& ids, at::Tensor const& to) {
    auto const from = rows.accessor<Number, 2>();
    auto const number = ids.accessor<std::int64_t, 1>();
    auto into = to.accessor<Number, 2>();
    for (std::int64_t i = 0; i < number.size(0); ++i)
      for (std::int64_t k = 0; k < from.size(1); ++k) into[number[i]][k] += from[i][k];
  }
  static auto forward(torch::autograd::AutogradContext* graph, at::Tensor const& weight, at::Tensor const& ids)
      -> at::Tensor {
    graph->save_for_backward({weight, ids});
    note_stage(*graph);
    return at::embedding(weight, ids);
  }
  static auto backward(torch::autograd::AutogradContext* graph, torch::autograd::variable_list const& gradients)
      -> torch::autograd::variable_list {
    auto const saved = graph->get_saved_variables();
    auto const &weight = saved[0], &ids = saved[1], &dy = gradients[0];
    auto const sum = sum_of(*graph, weight);
    bool const is_here = sum.defined() && sum.is_cpu();  // elsewhere torch knows how to add rows up in a fixed order
    if (is_here && sum.scalar_type() == at::kFloat) add_rows<float>(dy, ids, sum);
    else if (is_here && sum.scalar_type() == at::kDouble) add_rows<double>(dy, ids, sum);
    else return {at::embedding_dense_backward(dy, ids, weight.size(0), -1, false), {}};
    return {{}, {}};
  }
};

}  // namespace detail

/// x w + bias, rows by in times in by out; `is_out_by_in`: the weight is stored as torch::linear has it. There may be no bias. In
/// a stage the weight's gradient is added to the sum over micro-batches by the product itself, which saves two passes over
/// the weight and its memory. Use a weight at one place only: else both halves of a backward that is split add up in
/// another order than one backward.
inline auto affine(at::Tensor const& x, at::Tensor const& weight, std::optional<at::Tensor> const& bias,
                   bool is_out_by_in = false) -> at::Tensor {
  return detail::summing_affine::apply(x, weight, bias, is_out_by_in);
}

/// Rows of the weight by their numbers, of any shape. In a stage only the gradients of these rows are added to the sum; see affine.
inline auto embedding(at::Tensor const& weight, at::Tensor const& ids) -> at::Tensor {
  auto sizes = ids.sizes().vec();
  sizes.push_back(weight.size(1));
  return detail::summing_embedding::apply(weight, ids.reshape({-1}).to(at::kLong)).view(sizes);
}

}  // namespace pipewright::inline v0::libtorch
