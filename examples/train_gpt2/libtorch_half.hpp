// SPDX-License-Identifier: Apache-2.0
// What of the trainer needs LibTorch, by functions that do not: a library of its own, which a training that asks for it loads.
// To load LibTorch takes most of a second, and its headers a quarter of a minute to compile.
#pragma once

#include <memory>
#include <vector>

#include <dlfcn.h>
#include <fmt/format.h>

#include <pipewright/error.hpp>
#include <pipewright/launch/place.hpp>

#include "training.hpp"

namespace trainer {

class libtorch_half {
 public:
  libtorch_half() = default;
  libtorch_half(libtorch_half const&) = delete;
  libtorch_half& operator=(libtorch_half const&) = delete;
  virtual ~libtorch_half() = default;

  /// The processes of a job that meet over Gloo; throws where it is not there.
  virtual std::unique_ptr<processes> over_gloo(pw::launch::place here) const = 0;
  /// measured_costs and train of the GPT-2 of torch's modules.
  virtual std::vector<layer_cost> measured_costs(request const& r) const = 0;
  virtual outcome train(processes const& on, request const& r, prospect const& p, data_set const& data,
                        progress_line report, origin const& from) const = 0;
};

/// The library loaded, at the first call; throws where it is not there. `option`: who asks for it.
inline libtorch_half const& load_libtorch_half([[maybe_unused]] char const* option) {
#ifdef TRAINER_HAS_LIBTORCH
  auto* const library = dlopen(TRAINER_HAS_LIBTORCH, RTLD_LAZY | RTLD_LOCAL);  // found as the program's run path says
  auto* const half = library == nullptr ? nullptr : dlsym(library, "train_gpt2_libtorch_half");
  if (half == nullptr)
    throw pw::error(fmt::format("{} needs the part of train_gpt2 that is made of LibTorch, which cannot be loaded: {}",
                                option, dlerror()));
  return *reinterpret_cast<libtorch_half const* (*)()>(half)();
#else
  throw pw::error(
      fmt::format("{} is not in this train_gpt2, which was built without LibTorch; pip install torch, or unpack "
                  "LibTorch's zip and configure with PIPEWRIGHT_TORCH_DIR, and build again",
                  option));
#endif
}

}  // namespace trainer

extern "C" trainer::libtorch_half const* train_gpt2_libtorch_half();
