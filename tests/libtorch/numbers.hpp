// SPDX-License-Identifier: Apache-2.0
#pragma once
// The numbers inside a tensor, for <laws/stage.hpp>; tensors from numbers.

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include <pipewright/libtorch/tensor.hpp>

namespace pipewright::inline v0::libtorch {

void for_each_number(tensor& value, auto& visit) {
  if (!value.defined()) return;
  auto const each = [&]<class T>(T* numbers) {
    for (std::int64_t i = 0; i < value->numel(); ++i) visit(numbers[i]);
  };
  switch (value->scalar_type()) {
    case at::kDouble: return each(value->mutable_data_ptr<double>());
    case at::kFloat: return each(value->mutable_data_ptr<float>());
    case at::kLong: return each(value->mutable_data_ptr<std::int64_t>());
    default: throw error("no numbers of this dtype");
  }
}

}  // namespace pipewright::inline v0::libtorch

namespace test {

namespace pw = pipewright;
namespace lt = pipewright::libtorch;

/// Numbers without a pattern, the same at every call; none near 0.
inline lt::tensor numbers(std::vector<std::int64_t> const& sizes, double first = 0.3, at::ScalarType as = at::kDouble) {
  auto made = torch::empty(sizes, torch::kDouble);
  double* const to = made.data_ptr<double>();
  for (std::int64_t i = 0; i < made.numel(); ++i) to[i] = std::sin(first + 1.7 * static_cast<double>(i)) + 0.01;
  return lt::tensor(made.to(as));
}

}  // namespace test
