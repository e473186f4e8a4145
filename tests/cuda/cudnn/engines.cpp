// SPDX-License-Identifier: Apache-2.0
// Without a device: whether cuDNN, where it can be loaded, has engines for our attention as we describe it, on devices that it is told
// of. Of CUDA's driver the toolkit's stub is enough.
#include <cstdio>
#include <string>

#include <doctest/doctest.h>

#include <pipewright/gpt2_cuda/cudnn_attention.hpp>

namespace {

namespace cuda = pipewright::gpt2::cuda;
using pipewright::gpt2::attention_shape;

/// What cuDNN asks a device of an H200; of an A100 with another version, which is near enough.
std::string device_of(int architecture) {
  return R"({"version": 1, "deviceName": "described", "cudaDeviceId": 0, "deviceVer": )" +
         std::to_string(10 * architecture) +
         R"(, "driverVer": 13000, "isTccDriver": 0, "l2CacheSize": 62914560, "maxCtasPerSM": 32, "maxRegistersPerSM": 65536,
         "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": )" +
         (architecture >= 90 ? "232448" : "166912") +
         R"(, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "memClockRateKHz": 3201000, "memoryBusWidth": 6144, "oversizedSharedMemoryPerBlock": 0, "smCountOrigin": 0, "multiProcessorCount": 132,
         "pciDeviceId": 0, "regsPerBlock": 65536, "reservedSharedMemoryPerBlock": 1024, "smClockRateKHz": 1980000,
         "supportCoopLaunch": 1, "totalGlobalMem": 150000000000, "warpSize": 32, "maxBlockSize": [1024, 1024, 64],
         "maxGridSize": [2147483647, 65535, 65535]})";
}

}  // namespace

TEST_CASE("cuDNN has engines for our attention") {
  std::string const first = cuda::cudnn_attention::lacks(cuda::pass::forward, {1, 128, 1, 64}, device_of(90), 90);
  for (char const* missing : {"cuDNN cannot be loaded", "built without cuDNN", "PREREQUISITE_MISSING",
                              "SUBLIBRARY_LOADING_FAILED", "libcuda"})
    if (first.find(missing) != std::string::npos) {
      std::printf("SKIPPED: %s\n", first.substr(0, 400).c_str());
      return;
    }
  for (int const architecture : {80, 90})
    for (auto const which : {cuda::pass::forward, cuda::pass::backward})
      for (attention_shape const s :
           {attention_shape{32, 1024, 12, 768}, {3, 150, 3, 192}, {2, 1000, 2, 256}, {2, 65, 2, 32}}) {
        CAPTURE(architecture);
        CAPTURE(s.length);
        CAPTURE(s.head_size());
        CAPTURE(which == cuda::pass::backward);
        CHECK(cuda::cudnn_attention::lacks(which, s, device_of(architecture), architecture) == "");
      }
  CHECK(cuda::cudnn_attention::lacks(cuda::pass::forward, {1, 128, 1, 64}, "{}", 90)
            .starts_with("pipewright: cuDNN's attention failed to take a device's description: "));
}
