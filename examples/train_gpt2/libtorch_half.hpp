// SPDX-License-Identifier: Apache-2.0
// What of the trainer and the profiler needs LibTorch, by functions that do not: a library of its own, loaded by who asks for it.
// To load LibTorch takes most of a second, and its headers a quarter of a minute to compile.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <fmt/format.h>

#include <pipewright/error.hpp>
#include <pipewright/launch/place.hpp>

#include "layer_profile.hpp"
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

namespace detail {

/// Where the library is: beside the program in a build, else as installed. Not by the program's run path, which a program
/// under address sanitizer does not look into.
inline std::string libtorch_half_file(char const* installed) {
  namespace fs = std::filesystem;
  auto const folder = fs::read_symlink("/proc/self/exe").parent_path();
  auto const beside = folder / "train_gpt2_libtorch.so";
  return fs::exists(beside) ? beside.string() : (folder / installed / "train_gpt2_libtorch.so").string();
}

}  // namespace detail

/// The library loaded, at the first call; throws where it is not there. `option`: who asks for it.
inline libtorch_half const& load_libtorch_half([[maybe_unused]] char const* option) {
#ifdef TRAINER_LIBTORCH_FOLDER
  auto* const library = dlopen(detail::libtorch_half_file(TRAINER_LIBTORCH_FOLDER).c_str(), RTLD_LAZY | RTLD_LOCAL);
  auto* const half = library == nullptr ? nullptr : dlsym(library, "train_gpt2_libtorch_half");
  if (half == nullptr)
    throw pw::error(fmt::format("{} needs the part of train_gpt2 that is made of LibTorch, which cannot be loaded: {}",
                                option, dlerror()));
  return *reinterpret_cast<libtorch_half const* (*)()>(half)();
#else
  throw pw::error(
      fmt::format("{} is not in this build, which is without LibTorch; pip install torch, or unpack "
                  "LibTorch's zip and configure with PIPEWRIGHT_TORCH_DIR, and build again",
                  option));
#endif
}

}  // namespace trainer

extern "C" trainer::libtorch_half const* train_gpt2_libtorch_half();
