// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <ATen/Context.h>
#include <c10/core/Device.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <link.h>

#include <pipewright/error.hpp>

namespace pipewright::inline v0::libtorch {

namespace detail {

/// LibTorch's library of GPUs, from beside its library of the CPU; what keeps it from being loaded, or nothing.
inline std::string load_gpu_library() {
  std::unique_ptr<void, int (*)(void*)> const beside(dlopen("libc10.so", RTLD_NOW | RTLD_NOLOAD), &dlclose);
  link_map const* found = nullptr;
  if (beside == nullptr || dlinfo(beside.get(), RTLD_DI_LINKMAP, &found) != 0) return "it cannot be found";
  auto const folder = std::filesystem::path(found->l_name).parent_path();
  for (char const* const name : {"libtorch_cuda.so", "libtorch_hip.so"})
    if (auto const file = folder / name; std::filesystem::exists(file))
      return dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr ? "" : dlerror();
  return "this LibTorch was built without it";
}

}  // namespace detail

/// The device of a name: "cpu", "cuda", "cuda:1". A program is linked with LibTorch's part for the CPU; what a GPU needs is loaded
/// here, at the first call that names one: call it before anything else of torch, whose backward and generators look for GPUs once
/// and for all when they are first used. Where the name has no number, it is that of the `local_rank`, round and round. Throws error
/// where there is no such device.
inline at::Device device(std::string const& name, int local_rank = 0) {
  auto const named = [&] {
    try {
      return at::Device(name);
    } catch (c10::Error const&) {
      throw error("there is no device '" + name + "'; choose cpu, cuda, or cuda:1 for the second one");
    }
  }();
  if (named.is_cpu()) return named;
  std::string lacks;
  if (!c10::impl::hasDeviceGuardImpl(named.type()) && named.is_cuda()) lacks = detail::load_gpu_library();
  int const count = lacks.empty() && c10::impl::hasDeviceGuardImpl(named.type())
                        ? c10::impl::VirtualGuardImpl(named.type()).deviceCount()
                        : 0;
  if (count == 0)
    throw error("there is no device '" + name + "' here" +
                (lacks.empty() ? "" : ", since LibTorch's library for it cannot be loaded: " + lacks) +
                "; choose cpu, or install a LibTorch that has it with all that it depends on");
  if (named.is_cuda() && !at::globalContext().hasCUDA())
    throw error(
        "LibTorch was used before its library of GPUs was loaded, and will not find it any more; call "
        "pipewright::libtorch::device(\"" +
        name + "\") at the program's start");
  if (named.index() >= count)
    throw error("there is no device '" + name + "' here; the last one has the number " + std::to_string(count - 1));
  return named.has_index() ? named : at::Device(named.type(), static_cast<c10::DeviceIndex>(local_rank % count));
}

}  // namespace pipewright::inline v0::libtorch
