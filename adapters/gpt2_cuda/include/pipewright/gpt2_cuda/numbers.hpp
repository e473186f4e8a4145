// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

#include <cuda_bf16.h>

namespace pipewright::inline v0::gpt2::cuda {

using bf16 = __nv_bfloat16;

/// The types that activations and weights may have; all arithmetic is in fp32.
template<class T>
concept number = std::is_same_v<T, float> || std::is_same_v<T, bf16>;

}  // namespace pipewright::inline v0::gpt2::cuda
