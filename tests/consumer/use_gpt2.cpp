// SPDX-License-Identifier: Apache-2.0
#if __has_include(<pipewright/gpt2/gpt2.hpp>)
#include <pipewright/gpt2/gpt2.hpp>
#endif
#include <cblas.h>

int main() {
  float const x[] = {1.0f, 2.0f};
  return cblas_sdot(2, x, 1, x, 1) == 5.0f ? 0 : 1;
}
