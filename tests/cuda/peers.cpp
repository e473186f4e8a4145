// SPDX-License-Identifier: Apache-2.0
// Ranks of one process on several devices, without one (on_host/), and on a machine with two or more (tests/gpu; else exit code
// 77): the laws of transports, and trainings that must have the bits of one device.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <cuda/trainings.hpp>
#include <doctest/doctest.h>
#include <laws/transport.hpp>
#include <support/sentence.hpp>

#include <pipewright/cuda/loopback.hpp>
#include <pipewright/gpt2_cuda/backend.hpp>

namespace {

using namespace small_training;
namespace cuda = pw::cuda;

std::vector<int> two_devices() {
#ifdef PIPEWRIGHT_ON_DEVICE
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count < 2) {
    std::puts("there are no two GPUs here, between which values could be copied");
    std::exit(77);
  }
#else
  cuda_on_host::devices = 2;
#endif
  return {0, 1};
}

struct over_two_devices {
  static constexpr bool is_strict = true;
  void run(int ranks, auto f, double deadline) const {
    cuda::loopback::run(ranks, f, two_devices(), {.deadline = deadline, .grace = 60});
  }
};

template<class T>
outcome train(setting const& s, char const* schedule, pw::shape shape, std::vector<int> const& devices) {
  auto const plan =
      pw::make_plan(schedule, shape, s.needs(shape.ranks * std::max(shape.chunks, 1), pw::recompute_mode::never));
  return by_pipeline(s, plan, cut(gpt2::cuda::model<T>(s.model()), plan.view().stages()), pw::adamw(1e-2, 0.1),
                     [&](auto const& ranks, auto f) { cuda::loopback::run(ranks, f, devices); });
}

/// Values of changing sizes on the device, and with each a number on the host; every rank sends to the next and to the one before.
struct package {
  int number = 0;
  cuda::buffer<int> numbers;
  void for_each_part(auto&& visit) {
    visit(number);
    visit(numbers);
  }
};

/// Whose numbers lie on the device or on the host.
struct either {
  cuda::buffer<int> there;
  std::vector<int> here;
  bool is_there = false;
  void for_each_part(auto&& visit) {
    if (is_there) visit(part_of(there));
    else visit(part_of(here));
  }
  pw::part part_of(auto& of) { return {of.data(), 3 * sizeof(int), pw::element::int32, is_there}; }
  std::vector<std::int64_t> shape() const { return {}; }
  void reshape(std::span<std::int64_t const>) {}
};

}  // namespace

TEST_CASE("ranks on two devices keep the laws of transports") { laws::transport<over_two_devices>(); }

TEST_CASE("a copy waits for the last uses of both slots, and both ranks' streams for the copy") {
  // A slot is written over as soon as it may be: a copy that came too early or too late would have other numbers.
  constexpr int rounds = 50, ranks = 4;
  auto const most = [](int round) { return static_cast<std::size_t>(1 + round % 7); };
  // Whoever comes second copies: now the sender, now the receiver, now whoever it is.
  for (int const late : {-1, 0, 1}) {
    CAPTURE(late);
    cuda::loopback::run(
        ranks,
        [&](auto& here) {
          int const me = here.rank(), next = (me + 1) % ranks, before = (me + ranks - 1) % ranks;
          int const out = here.open({me, next, pw::traffic::activation});
          int const in = here.open({before, me, pw::traffic::activation});
          auto const stream = cuda::context::here().stream();
          package sent, received;
          cuda::pinned_buffer<int> given, found;
          given.resize(rounds * 7);
          found.resize(rounds * 7);
          for (int round = 0; round < rounds; ++round) {
            auto const n = most(round);
            int* const numbers = given.data() + round * 7;
            for (std::size_t i = 0; i < n; ++i) numbers[i] = 1000 * me + 7 * round + static_cast<int>(i);
            sent.number = me + round;
            sent.numbers.resize(n);
            sent.numbers.copy_from(numbers);
            pw::ticket receiving, sending;
            auto const post = [&] { receiving = here.post(in, pw::message_of(received)); };
            auto const send = [&] { sending = here.send(out, pw::message_of(sent)); };
            if (late == 0) post();
            else send();
            if (late >= 0) here.agree("all have begun");
            if (late == 0) send();
            else post();
            here.wait(receiving);
            here.wait(sending);
            CHECK(received.number == before + round);
            REQUIRE(received.numbers.size() == n);
            cuda::queue_copy(stream, received.numbers.data(), n, found.data() + round * 7);
          }
          cuda::context::here().wait();
          int wrong = 0;
          for (int round = 0; round < rounds; ++round)
            for (std::size_t i = 0; i < most(round); ++i)
              wrong += found.data()[static_cast<std::size_t>(round * 7) + i] !=
                       1000 * before + 7 * round + static_cast<int>(i);
          CHECK(wrong == 0);
        },
        two_devices());
  }
}

TEST_CASE("a value's parts lie in the same places on both devices") {
  auto const said = support::sentence_of([] {
    cuda::loopback::run(
        2,
        [](auto& here) {
          int const channel = here.open({0, 1, pw::traffic::activation});
          either slot{cuda::buffer<int>(3), std::vector<int>(3), here.rank() == 0};
          here.wait(here.rank() == 0 ? here.send(channel, pw::message_of(slot))
                                     : here.post(channel, pw::message_of(slot)));
        },
        two_devices());
  });
  CHECK(said.find("keep the boundary type's parts in the same places on both ranks") != std::string::npos);
}

TEST_CASE_TEMPLATE("synchronous schedules over two devices give the sequential bits", T, float, gpt2::cuda::bf16) {
  for (setting const& s : {setting{}, setting{.dropout = 0.2f, .tied = true, .clip = 0.5}}) {
#ifdef PIPEWRIGHT_QUICK_TESTS
    if (s.dropout == 0) continue;
#endif
    auto const devices = two_devices();
    auto const expected = train<T>(s, "sequential", {.ranks = 1, .micro_batches = 4}, {0});
    for (int const ranks : {2, 4})
      for (auto const* schedule : {"gpipe", "flush", "interleaved"}) {
#ifdef PIPEWRIGHT_QUICK_TESTS
        if (schedule != std::string_view(ranks == 2 ? "interleaved" : "flush")) continue;
#endif
        CAPTURE(ranks);
        CAPTURE(schedule);
        int const chunks = schedule == std::string_view("interleaved") ? 2 : 1;
        pw::shape const shape{.ranks = ranks, .micro_batches = 4, .chunks = chunks};
        check_equal(train<T>(s, schedule, shape, devices), expected);
        if (ranks == 4) check_equal(train<T>(s, schedule, shape, {0, 0, 1, 1}), expected);  // some swap, some copy
      }
  }
}

TEST_CASE("asynchronous schedules over two devices have the bits of one") {
  for (auto const* schedule : {"1f1b", "2bw"}) {
    CAPTURE(schedule);
    pw::shape const shape{.ranks = 4, .micro_batches = 4};
    check_equal(train<float>({}, schedule, shape, two_devices()), train<float>({}, schedule, shape, {0}));
  }
}

#ifndef PIPEWRIGHT_ON_DEVICE
TEST_CASE("copies go straight from device to device where these reach each other, else by the host") {
  auto const copy = [] {
    cuda::loopback::run(
        2,
        [](auto& here) {
          int const channel = here.open({0, 1, pw::traffic::activation});
          cuda::buffer<int> slot(3);
          here.wait(here.rank() == 0 ? here.send(channel, pw::message_of(slot))
                                     : here.post(channel, pw::message_of(slot)));
        },
        two_devices());
  };
  auto const by_host = [&] {
    cuda_on_host::pools.clear();
    cuda_on_host::peer_copies = cuda_on_host::peer_copies_by_host = 0;
    copy();
    CHECK(cuda_on_host::peer_copies == 1);
    return cuda_on_host::peer_copies_by_host;
  };
  CHECK(by_host() == 0);
  CHECK(cuda::share_pools(two_devices()));
  cuda_on_host::devices_reach_each_other = false;
  CHECK(by_host() == 1);
  CHECK_FALSE(cuda::share_pools(two_devices()));
  cuda_on_host::devices_reach_each_other = true;
  cuda_on_host::fail("cudaMemPoolSetAccess", 0, cudaErrorInvalidValue);
  CHECK_FALSE(cuda::share_pools(two_devices()));
}

TEST_CASE("after a failure a slot is freed only when the copy out of it is done") {  // or the address sanitizer says so
  auto const said = support::sentence_of([] {
    cuda::loopback::run(
        2,
        [](auto& here) {
          int const channel = here.open({0, 1, pw::traffic::activation});
          int const never = here.open({1, 0, pw::traffic::gradient});
          cuda::buffer<int> slot(3), other(3);
          if (here.rank() == 0) {
            here.send(channel, pw::message_of(slot));
            here.agree("sent");
            here.wait(here.post(never, pw::message_of(other)));
          } else {
            here.agree("sent");
            here.post(channel, pw::message_of(slot));
            here.abort("no more of this");
          }
        },
        two_devices());
  });
  CHECK(said.find("no more of this") != std::string::npos);
  CHECK(cuda_on_host::held.empty());
}

TEST_CASE("a step over two devices allocates nothing in the steady state, and no host waits for a copy") {
  setting const s{.dropout = 0.2f, .steps = 4};
  auto const plan = pw::make_plan("flush", {.ranks = 2, .micro_batches = 4}, s.needs(2, pw::recompute_mode::never));
  std::size_t waits = 0;
  auto const watched = [&](auto& here) {
    return [&, steps = 0](auto const& step) mutable {
      if (++steps < s.steps) return step();
      here.agree("warm");
      auto const allocations = cuda_on_host::allocations, before = cuda_on_host::waits;
      here.agree("seen");
      step();
      here.agree("done");
      CHECK(cuda_on_host::allocations == allocations);
      if (here.rank() == 0) waits = cuda_on_host::waits - before;
      here.agree("counted");
    };
  };
  by_pipeline(
      s, plan, cut(gpt2::cuda::model<gpt2::cuda::bf16>(s.model()), 2), pw::adamw(1e-2, 0.1),
      [](auto const& ranks, auto f) { cuda::loopback::run(ranks, f, two_devices()); }, watched);
  CHECK(waits > 0);
  CHECK(waits <= 2 * (4 + 2 * 4));  // as on one device: losses, and tokens whose memory was still in use
}

TEST_CASE("a fault on one of two devices ends the ranks on both, and memory goes after its last use") {
  for (int const n : {0, 3, 10, 30}) {
    CAPTURE(n);
    setting const s;
    auto const said = support::sentence_of([&] {
      cuda_on_host::fail("cudaMemcpyPeerAsync", n, cudaErrorIllegalAddress);
      train<float>(s, "flush", {.ranks = 4, .micro_batches = 4}, two_devices());
    });
    CHECK(said.find("cudaMemcpyPeerAsync at peers.hpp:") != std::string::npos);
    CHECK(said.find("an illegal memory access was encountered") != std::string::npos);
  }
  CHECK(cuda_on_host::held.empty());
}
#endif
