// SPDX-License-Identifier: Apache-2.0
// Parts of the programs that are libraries of their own, loaded by who asks for them: what they are made of takes long to load, or is not
// everywhere.
#pragma once

#include <filesystem>
#include <string>

#include <dlfcn.h>
#include <fmt/format.h>

#include <pipewright/error.hpp>

namespace trainer {

namespace detail {

/// Where a library is: beside the program in a build, else as installed. Not by the program's run path, which a program
/// under address sanitizer does not look into.
inline std::string module_file(std::string const& library, char const* installed) {
  namespace fs = std::filesystem;
  auto const folder = fs::read_symlink("/proc/self/exe").parent_path();
  auto const beside = folder / (library + ".so");
  return fs::exists(beside) ? beside.string() : (folder / installed / (library + ".so")).string();
}

}  // namespace detail

/// What the function of the library's name gives, the library loaded at the first call; throws where it is not there. `option`: who
/// asks for it; `made_of`: what; `installed`: the library's folder, seen from the program.
template<class Half> Half const& load_module(std::string const& library, char const* installed, char const* option,
                                             char const* made_of) {
  auto* const loaded = dlopen(detail::module_file(library, installed).c_str(), RTLD_LAZY | RTLD_LOCAL);
  auto* const half = loaded == nullptr ? nullptr : dlsym(loaded, (library + "_half").c_str());
  if (half == nullptr)
    throw pipewright::error(fmt::format(
        "{} needs the part of train_gpt2 that is made of {}, which cannot be loaded: {}", option, made_of, dlerror()));
  return *reinterpret_cast<Half const* (*)()>(half)();
}

}  // namespace trainer
