// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <iostream>

#include <pipewright/cuda/cuda.hpp>

int main() {
  try {
    pipewright::cuda::context const here;
    return here.device();
  } catch (pipewright::error const& fault) {  // most machines have none
    std::cout << fault.what() << '\n';
    return std::strstr(fault.what(), "there is no CUDA device here") == nullptr;
  }
}
