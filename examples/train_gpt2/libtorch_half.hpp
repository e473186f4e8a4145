// SPDX-License-Identifier: Apache-2.0
// What of the trainer and the profiler needs LibTorch, by functions that do not: a library of its own, loaded by who asks for it.
// To load LibTorch takes most of a second, and its headers a quarter of a minute to compile.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <pipewright/error.hpp>
#include <pipewright/launch/place.hpp>

#include "layer_profile.hpp"
#include "load_module.hpp"
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
  virtual layer_costs measured_costs(request const& r) const = 0;
  /// profile_of of the same.
  virtual pw::measured_profile profile(profile_request const& r) const = 0;
  virtual outcome train(processes const& on, request const& r, prospect const& p, data_set const& data,
                        progress_line report, origin const& from) const = 0;
};

/// The library loaded, at the first call; throws where it is not there. `option`: who asks for it.
inline libtorch_half const& load_libtorch_half([[maybe_unused]] char const* option) {
#ifdef TRAINER_LIBTORCH_FOLDER
  return load_module<libtorch_half>("train_gpt2_libtorch", TRAINER_LIBTORCH_FOLDER, option, "LibTorch");
#else
  throw pw::error(
      fmt::format("{} is not in this build, which is without LibTorch; pip install torch, or unpack "
                  "LibTorch's zip and configure with PIPEWRIGHT_TORCH_DIR, and build again",
                  option));
#endif
}

}  // namespace trainer

extern "C" trainer::libtorch_half const* train_gpt2_libtorch_half();
