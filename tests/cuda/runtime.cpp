// SPDX-License-Identifier: Apache-2.0
// The CUDA adapter without a device (on_host/), and on one (tests/gpu): memory, errors, and ranks as streams of one device.
#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <laws/transport.hpp>
#include <support/sentence.hpp>

#include <pipewright/cuda/cuda.hpp>

namespace {

namespace pw = pipewright;
namespace cuda = pw::cuda;

struct loopback {
  static constexpr bool is_strict = true;
  void run(int ranks, auto f, double deadline) const {
    cuda::loopback::run(ranks, f, 0, {.deadline = deadline, .grace = 60});
  }
};

}  // namespace

TEST_CASE("pinned memory that was given back is taken again once the device has read it, and asked for in blocks") {
  cuda::context here;
  here.pinned().reserve(std::size_t{1} << 16);
#ifndef PIPEWRIGHT_ON_DEVICE
  auto const blocks = cuda_on_host::pinned_allocations.load();
#endif
  constexpr std::size_t n = 1000, rounds = 20;
  std::vector<cuda::buffer<int>> to(rounds);
  for (std::size_t i = 0; i < rounds; ++i) {
    cuda::pinned_buffer<int> from;
    from.resize(n - 10 * (i % 3));
    std::fill_n(from.data(), from.size(), static_cast<int>(i));
    to[i].resize(from.size());
    to[i].copy_from(from.data());
    if (i % 5 == 4) here.wait();
  }
  for (std::size_t i = 0; i < rounds; ++i) {
    std::vector<int> found(to[i].size());
    cuda::download<int>(to[i].data(), found);
    CHECK(found == std::vector<int>(found.size(), static_cast<int>(i)));
  }
#ifndef PIPEWRIGHT_ON_DEVICE
  CHECK(cuda_on_host::pinned_allocations == blocks);  // 20 times 4 KB, of 64
  std::vector<cuda::pinned_buffer<int>> more(40);
  for (auto& each : more) each.resize(n);
  CHECK(cuda_on_host::pinned_allocations == blocks + 1);
#endif
}

TEST_CASE("ranks as streams of one device keep the laws of transports") { laws::transport<loopback>(); }

TEST_CASE("a receiver's stream waits for the sender's, and the sender's for who used the slot before") {
  // Each value that comes is added to on the receiver's stream, and a slot is written over on the sender's: late, since streams do
  // nothing before they must. A stream that did not wait would find another value.
  constexpr int rounds = 50;
  cuda::loopback::run(2, [&](auto& here) {
    int const channel = here.open({0, 1, pw::traffic::activation});
    cuda::buffer<int> slot(1), sum(1);
    cuda::pinned_buffer<int> numbers;
    numbers.resize(rounds);
    for (int i = 0; i < rounds; ++i) numbers.data()[i] = i + 1;
    std::vector<int> found(rounds);
    auto const stream = cuda::context::here().stream();
    for (int i = 0; i < rounds; ++i) {
      if (here.rank() == 0) {
        slot.copy_from(numbers.data() + i);
        here.wait(here.send(channel, pw::message_of(slot)));
      } else {
        here.wait(here.post(channel, pw::message_of(slot)));
        cuda::check(cudaMemcpyAsync(found.data() + i, slot.data(), sizeof(int), cudaMemcpyDeviceToHost, stream),
                    "copy");
      }
    }
    cuda::context::here().wait();
    if (here.rank() == 1)
      for (int i = 0; i < rounds; ++i) CHECK(found[static_cast<std::size_t>(i)] == i + 1);
  });
}

TEST_CASE("memory is zero where it is made with a size, copied deeply, and only grows") {
  cuda::context here;
  cuda::buffer<float> one(3);
  std::vector<float> found(3, 5.f);
  cuda::download<float>(one.data(), found);
  CHECK(found == std::vector<float>{0, 0, 0});
  std::vector<float> const given{1, 2, 3};
  cuda::upload<float>(given, one.data());
  auto const other = one;
  one.clear();
  cuda::download<float>(other.data(), found);
  CHECK(found == given);
#ifndef PIPEWRIGHT_ON_DEVICE  // which does not say how often it was asked
  auto const before = cuda_on_host::allocations;
  one.resize(2);
  one.resize(3);
  CHECK(cuda_on_host::allocations == before);
  one.resize(4);
  CHECK(cuda_on_host::allocations == before + 1);
#endif
}

TEST_CASE("errors name the call, the place and the rank") {
  CHECK(support::sentence_of([] { cuda::context::here(); }).find("make a pipewright::cuda::context first") !=
        std::string::npos);
#ifdef PIPEWRIGHT_ON_DEVICE
  int devices = 0;
  cuda::check(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
  CHECK(support::sentence_of([&] { cuda::context{devices}; }).find("; the last one has the number") !=
        std::string::npos);
  cuda::context here(0, 2);
  auto const said = support::sentence_of([] { cuda::buffer<float>(std::size_t{1} << 40); });
  CHECK(said.starts_with("pipewright: rank 2: cudaMallocAsync at memory.hpp:"));
  CHECK(said.find("found no room for 4194304 MiB more on the device, of whose ") != std::string::npos);
  cuda::buffer<float>(3);  // an error that was said is over
  here.wait();
#else
  CHECK(support::sentence_of([] { cuda::context(3); }) ==
        "pipewright: there is no CUDA device 3 here; the last one has the number 0");
  cuda_on_host::devices = 0;
  CHECK(support::sentence_of([] { cuda::context(); }) ==
        "pipewright: there is no CUDA device here: no CUDA-capable device is detected; run on a machine with an NVIDIA "
        "GPU "
        "and its driver, or let the host compute");
  cuda_on_host::devices = 1;
  cuda::context here(0, 2);
  cuda_on_host::fail("cudaEventQuery", 0, cudaErrorIllegalAddress);
  CHECK(support::sentence_of([&] { here.wait(); }).starts_with("pipewright: rank 2: cudaEventQuery at event.hpp:"));
  CHECK(support::sentence_of([] { cuda::buffer<float>(std::size_t{1} << 40); })
            .find("found no room for 4194304 MiB more on the device, of whose 16384 MiB 16384 MiB are free; choose "
                  "smaller") != std::string::npos);
#endif
}

#ifndef PIPEWRIGHT_ON_DEVICE
TEST_CASE("a fault of one rank's device ends the others") {
  auto const said = support::sentence_of([] {
    cuda::loopback::run(3, [&](auto& here) {
      int const rank = here.rank();
      int const channel = here.open({1, rank == 0 ? 0 : 2, pw::traffic::activation});
      cuda::buffer<int> slot(1);
      here.agree("all are here");
      if (rank == 1) cuda_on_host::fail("cudaEventRecord", 0, cudaErrorIllegalAddress);
      here.wait(rank == 1 ? here.send(channel, pw::message_of(slot)) : here.post(channel, pw::message_of(slot)));
    });
  });
  CAPTURE(said);
  CHECK(said.find("rank 1") != std::string::npos);
  CHECK(said.find("an illegal memory access was encountered") != std::string::npos);
}
#endif
