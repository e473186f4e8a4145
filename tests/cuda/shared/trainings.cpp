// SPDX-License-Identifier: Apache-2.0
#include <cuda/trainings.hpp>

namespace small_training {

PIPEWRIGHT_TRAINING(, layers_on_host);
PIPEWRIGHT_TRAINING(, layers_on_device<float>);
PIPEWRIGHT_TRAINING(, layers_on_device<gpt2::cuda::bf16>);

}  // namespace small_training
