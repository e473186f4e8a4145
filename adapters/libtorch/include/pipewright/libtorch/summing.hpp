// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>

#include <pipewright/libtorch/random.hpp>

namespace pipewright::inline v0::libtorch {

namespace detail {

/// Where a stage's backward adds up this parameter's gradient, if it may be added to there; else undefined. A graph that was
/// made outside of a stage leaves that to torch.
inline auto sum_of(bool of_a_stage, at::Tensor const& parameter) -> at::Tensor {
  return of_a_stage && parameter.is_leaf() ? parameter.grad() : at::Tensor();
}
inline bool is_in_a_stage() { return current_context() != nullptr; }

struct summing_affine : torch::autograd::Function<summing_affine> {
  static constexpr std::int64_t out_by_in = 1, of_a_stage = 2;

  static auto forward(torch::autograd::AutogradContext* graph, at::Tensor const& x, at::Tensor const& weight,
                      std::optional<at::Tensor> const& bias, bool is_out_by_in) -> at::Tensor {
    at::AutoDispatchBelowADInplaceOrView const without_graph;
    graph->saved_data["facts"] = is_out_by_in * out_by_in + is_in_a_stage() * of_a_stage;
    graph->save_for_backward({x, weight, bias.value_or(at::Tensor())});
    auto const w = is_out_by_in ? weight.t() : weight;
    auto const rows = rows_of(x);
    auto y = bias ? at::addmm(*bias, rows, w) : at::mm(rows, w);
    if (x.dim() == 2) return y;
    auto sizes = x.sizes().vec();
    sizes.back() = w.size(1);
    return y.view(sizes);
  }
  static auto backward(torch::autograd::AutogradContext* graph, torch::autograd::variable_list const& gradients)
      -> torch::autograd::variable_list {
    at::AutoDispatchBelowADInplaceOrView const without_graph;
    auto const facts = graph->saved_data.at("facts").toInt();
    auto const saved = graph->get_saved_variables();
    auto const &x = saved[0], &weight = saved[1], &bias = saved[2];
    auto const dy = rows_of(gradients[0]);
    at::Tensor dx, dw, db;
    if (graph->needs_input_grad(0)) dx = at::mm(dy, facts & out_by_in ? weight : weight.t()).view(x.sizes());
    if (graph->needs_input_grad(1)) {
      auto const rows = rows_of(x);
      auto const left = facts & out_by_in ? dy.t() : rows.t();
      auto const& right = facts & out_by_in ? rows : dy;
      if (auto sum = sum_of(facts & of_a_stage, weight); sum.defined()) sum.addmm_(left, right);
      else dw = at::mm(left, right);
    }
    if (bias.defined() && graph->needs_input_grad(2)) {
      db = dy.sum(0);
      if (auto sum = sum_of(facts & of_a_stage, bias); sum.defined()) sum.add_(std::exchange(db, {}));
    }
    return {dx, dw, db, {}};
  }

 private:
  static auto rows_of(at::Tensor const& x) -> at::Tensor { return x.dim() == 2 ? x : x.reshape({-1, x.size(-1)}); }
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
    graph->saved_data["of_a_stage"] = is_in_a_stage();
    return at::embedding(weight, ids);
  }
  static auto backward(torch::autograd::AutogradContext* graph, torch::autograd::variable_list const& gradients)
      -> torch::autograd::variable_list {
    auto const saved = graph->get_saved_variables();
    auto const &weight = saved[0], &ids = saved[1], &dy = gradients[0];
    auto const sum = sum_of(graph->saved_data.at("of_a_stage").toBool(), weight);
    bool const is_here = sum.defined() && sum.is_cpu();  // elsewhere torch knows how to add rows up in a fixed order
    if (is_here && sum.scalar_type() == at::kFloat) add_rows<float>(dy, ids, sum);
    else if (is_here && sum.scalar_type() == at::kDouble) add_rows<double>(dy, ids, sum);
    else return {at::embedding_dense_backward(dy, ids, weight.size(0), -1, false), {}};
    return {{}, {}};
  }
};

}  // namespace detail

/// x w + bias, over x's last extent; `is_out_by_in`: the weight is stored as torch::linear has it. There may be no bias. In
/// a stage both gradients are added to the sum over micro-batches at once, the weight's by the product itself, which saves two passes over
/// the weight and its memory. Use a weight at one place only: else both halves of a backward that is split add up in
/// another order than one backward.
inline auto affine(at::Tensor const& x, at::Tensor const& weight, std::optional<at::Tensor> const& bias,
                   bool is_out_by_in = false) -> at::Tensor {
  return detail::summing_affine::apply(x, weight, bias && bias->defined() ? bias : std::nullopt, is_out_by_in);
}

/// Rows of the weight by their numbers, of any shape. In a stage only the gradients of these rows are added to the sum; see affine.
inline auto embedding(at::Tensor const& weight, at::Tensor const& ids) -> at::Tensor {
  auto sizes = ids.sizes().vec();
  sizes.push_back(weight.size(1));
  return detail::summing_embedding::apply(weight, ids.reshape({-1}).to(at::kLong)).view(sizes);
}

}  // namespace pipewright::inline v0::libtorch
