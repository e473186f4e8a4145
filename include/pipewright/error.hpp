// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>

namespace pipewright::inline v0 {

/// What every part of the library throws: one sentence that says what is wrong, where, and what to do.
struct error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace pipewright::inline v0
