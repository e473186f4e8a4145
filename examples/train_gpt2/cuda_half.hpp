// SPDX-License-Identifier: Apache-2.0
// What of the trainer needs CUDA, by functions that do not: a library of its own, which nvcc compiles.
#pragma once

#include <fmt/format.h>

#include <pipewright/error.hpp>

#include "load_module.hpp"
#include "training.hpp"

namespace trainer {

class cuda_half {
 public:
  cuda_half() = default;
  cuda_half(cuda_half const&) = delete;
  cuda_half& operator=(cuda_half const&) = delete;
  virtual ~cuda_half() = default;

  /// train() on GPUs: of threads rank by rank on those of the process, of processes each on its own, over NCCL, the processes' link
  /// being its control plane.
  /// Throws where there is no device.
  virtual outcome train(processes const& on, request const& r, prospect const& p, data_set const& data,
                        progress_line report, origin const& from) const = 0;
};

inline cuda_half const& load_cuda_half([[maybe_unused]] char const* option) {
#ifdef TRAINER_CUDA_FOLDER
  return load_module<cuda_half>("train_gpt2_cuda", TRAINER_CUDA_FOLDER, option, "CUDA");
#else
  throw pw::error(fmt::format(
      "{} is not in this build, which is without CUDA; install a CUDA 13 toolkit, or NVIDIA's pip wheels and "
      "configure with PIPEWRIGHT_CUDA_DIR, and build again",
      option));
#endif
}

}  // namespace trainer

extern "C" trainer::cuda_half const* train_gpt2_cuda_half();
