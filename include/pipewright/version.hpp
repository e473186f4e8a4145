// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>

/// \file
/// The version of pipewright. The build system reads it here; it stands nowhere else.

#define PIPEWRIGHT_VERSION_MAJOR 0
#define PIPEWRIGHT_VERSION_MINOR 1
#define PIPEWRIGHT_VERSION_PATCH 0

namespace pipewright::inline v0 {

/// A version number; versions compare in order of release.
struct version_number {  // `major` and `minor` are macros of some C libraries
  int major_part = 0;
  int minor_part = 0;
  int patch_part = 0;
  auto operator<=>(version_number const&) const = default;
};

/// The version of the headers that this translation unit includes.
inline constexpr version_number version{PIPEWRIGHT_VERSION_MAJOR, PIPEWRIGHT_VERSION_MINOR, PIPEWRIGHT_VERSION_PATCH};

}  // namespace pipewright::inline v0
