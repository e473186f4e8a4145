// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <doctest/doctest.h>

/// Checks a pure expression twice: the compiler evaluates it (a false one does not compile), then the program does.
#define PIPEWRIGHT_TWICE(...)   \
  do {                          \
    static_assert(__VA_ARGS__); \
    CHECK(__VA_ARGS__);         \
  } while (false)
