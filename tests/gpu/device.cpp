// SPDX-License-Identifier: Apache-2.0
// What CUDA finds here, as rows of a table; exit code 1 and a sentence where it finds no device.
#include <cstdio>
#include <exception>

#include <cuda_runtime_api.h>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/products.hpp>

int main() try {
  namespace cuda = pipewright::cuda;
  cuda::context where;
  cudaDeviceProp about{};
  cuda::check(cudaGetDeviceProperties(&about, where.device()), "cudaGetDeviceProperties");
  int driver = 0, runtime = 0, clock = 0, memory_clock = 0;
  cuda::check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  cuda::check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  cuda::check(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, where.device()), "cudaDeviceGetAttribute");
  cuda::check(cudaDeviceGetAttribute(&memory_clock, cudaDevAttrMemoryClockRate, where.device()),
              "cudaDeviceGetAttribute");
  auto const lt = cublasLtGetVersion();
  std::printf("| GPU | %s, compute capability %d.%d |\n", about.name, about.major, about.minor);
  std::printf("| multiprocessors, memory | %d, %.1f GiB |\n", about.multiProcessorCount,
              static_cast<double>(about.totalGlobalMem) / (1 << 30));
  std::printf("| clocks at most | %.0f MHz, memory %.0f MHz |\n", clock / 1e3, memory_clock / 1e3);
  std::printf("| CUDA | runtime %d.%d, the driver's %d.%d |\n", runtime / 1000, runtime % 1000 / 10, driver / 1000,
              driver % 1000 / 10);
  std::printf("| cuBLASLt | %zu.%zu.%zu |\n", lt / 10000, lt % 10000 / 100, lt % 100);
  return 0;
} catch (std::exception const& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
