// SPDX-License-Identifier: Apache-2.0
#include <nccl.h>
#if __has_include(<pipewright/nccl/link.hpp>)
#include <pipewright/nccl/link.hpp>
#endif

int main() {
  int version = 0;
  return ncclGetVersion(&version) == ncclSuccess && version >= 20000 ? 0 : 1;
}
