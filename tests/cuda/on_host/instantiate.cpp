// SPDX-License-Identifier: Apache-2.0
#include <pipewright/gpt2_cuda/instantiate.cuh>
