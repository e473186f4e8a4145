// SPDX-License-Identifier: Apache-2.0
#pragma once
// doctest, in a unit that also includes torch: both have a CHECK, and here it is doctest's whoever came last.

#include <c10/util/Logging.h>
#include <doctest/doctest.h>

#undef CHECK
#define CHECK(...) DOCTEST_CHECK(__VA_ARGS__)
