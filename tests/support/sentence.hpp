// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <pipewright/error.hpp>

namespace support {

/// What f() throws says; empty where it throws no pipewright::error.
std::string sentence_of(auto f) {
  try {
    f();
  } catch (pipewright::error const& e) {
    return e.what();
  }
  return "";
}

}  // namespace support
