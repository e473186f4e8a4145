// SPDX-License-Identifier: Apache-2.0
// Uses a little of everything that the core's headers define, as a program elsewhere would.
#if __has_include(<pipewright/pipewright.hpp>)
#include <pipewright/pipewright.hpp>
#endif
#include <pipewright/version.hpp>

int main() { static_assert(pipewright::version >= pipewright::version_number{0, 1, 0}); }
