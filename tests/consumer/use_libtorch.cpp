// SPDX-License-Identifier: Apache-2.0
#include <pipewright/libtorch/tensor.hpp>

int main() {
  pipewright::libtorch::tensor const ones(at::empty({2, 3}, at::TensorOptions(at::kFloat)));
  return pipewright::bytes_of(ones) == 24 ? 0 : 1;
}
