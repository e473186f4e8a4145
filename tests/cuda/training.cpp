// SPDX-License-Identifier: Apache-2.0
// GPT-2's CUDA backend whole, without a device (on_host/) and on one (tests/gpu): against the host's, and through pipelines whose
// ranks are streams of one device. The stand-in's streams do nothing before they must, so that a wait that is missing shows in the
// numbers.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <cuda/trainings.hpp>
#include <doctest/doctest.h>

#include <pipewright/cuda/loopback.hpp>
#include <pipewright/cuda/recorder.hpp>
#include <pipewright/gpt2/model.hpp>
#include <pipewright/gpt2_cuda/backend.hpp>
#include <pipewright/transport/in_process.hpp>

namespace {

using namespace small_training;
namespace cuda = gpt2::cuda;

auto const by_momentum = pw::sgd{.rate = 0.1, .momentum = 0.9, .weight_decay = 0.01};
auto const by_adam = pw::adamw(1e-2, 0.1);

outcome on_host(setting const& s, pw::plan_view plan, auto const& optimizer) {
  return by_pipeline(s, plan, cut(gpt2::model(s.model()), plan.stages()), optimizer,
                     [](auto const& ranks, auto f) { pw::in_process::run(ranks, f); });
}
template<class T> outcome on_device(setting const& s, pw::plan_view plan, auto const& optimizer,
                                    cuda::fusion how = cuda::fusion::where_it_wins) {
  return by_pipeline(s, plan, cut(cuda::model<T>(s.model()), plan.stages()), optimizer, [&](auto const& ranks, auto f) {
    pw::cuda::loopback::run(ranks, [&](auto& here) {
      pw::cuda::context::here().kept<cuda::linears>().fuse(how);
      f(here);
    });
  });
}
pw::dynamic_plan plan_of(setting const& s, char const* schedule, pw::shape shape) {
  return pw::make_plan(schedule, shape, s.needs(shape.ranks * std::max(shape.chunks, 1), pw::recompute_mode::never));
}

/// The norm of the difference of all weights over the norm of how far they have come.
double difference(outcome const& found, outcome const& expected, outcome const& start) {
  double off = 0, all = 0;
  for (auto const& [name, values] : expected.weights)
    for (std::size_t i = 0; i < values.size(); ++i) {
      off += std::pow(found.weights.at(name)[i] - values[i], 2);
      all += std::pow(values[i] - start.weights.at(name)[i], 2);
    }
  return std::sqrt(off / all);
}

constexpr pw::shape alone{.ranks = 1, .micro_batches = 4};

std::vector<setting> some_settings() { return {{}, {.dropout = 0.2f, .tied = true, .clip = 0.5}}; }

}  // namespace

TEST_CASE_TEMPLATE("the device trains as the host does", T, float, cuda::bf16) {
  double const near = std::is_same_v<T, float> ? 1e-4 : 3e-2;
  for (auto const& s : some_settings()) {
    auto const plan = plan_of(s, "sequential", alone);
    auto const start = on_host(s, plan, pw::sgd{.rate = 0.});
    auto const expected = on_host(s, plan, by_momentum);
    for (auto const how : {cuda::fusion::never, cuda::fusion::always}) {
      CAPTURE(static_cast<int>(how));
      auto const found = on_device<T>(s, plan, by_momentum, how);
      CHECK(difference(found, expected, start) < near);
      REQUIRE(found.losses.size() == expected.losses.size());
      for (std::size_t i = 0; i < found.losses.size(); ++i)
        CHECK(found.losses[i] == doctest::Approx(expected.losses[i]).epsilon(near / 10));
      CHECK(found.held_out == doctest::Approx(expected.held_out).epsilon(near / 10));
      for (std::size_t i = 0; i < found.norms.size(); ++i)
        CHECK(found.norms[i] == doctest::Approx(expected.norms[i]).epsilon(near));
    }
  }
}

TEST_CASE_TEMPLATE("synchronous schedules over streams of one device give the sequential bits", T, float, cuda::bf16) {
  for (auto const& s : some_settings()) {
#ifdef PIPEWRIGHT_QUICK_TESTS
    if (s.dropout == 0) continue;
#endif
    auto const expected = on_device<T>(s, plan_of(s, "sequential", alone), by_adam);
    for (int const ranks : {1, 2, 4})
      for (auto const* schedule : {"sequential", "gpipe", "flush", "interleaved"}) {
#ifdef PIPEWRIGHT_QUICK_TESTS
        if (ranks == 1) continue;
        if (schedule != std::string_view(ranks == 2 ? "gpipe" : std::is_same_v<T, float> ? "flush" : "interleaved"))
          continue;
#endif
        CAPTURE(ranks);
        CAPTURE(schedule);
        int const chunks = schedule == std::string_view("interleaved") ? 2 : 1;
        check_equal(
            on_device<T>(s, plan_of(s, schedule, {.ranks = ranks, .micro_batches = 4, .chunks = chunks}), by_adam),
            expected);
      }
  }
}

TEST_CASE("with GELU and sums in the products, too, any cut gives the same bits") {
  setting const s{.dropout = 0.2f, .tied = true, .clip = 0.5};
  auto const trained = [&](char const* schedule, pw::shape shape) {
    return on_device<cuda::bf16>(s, plan_of(s, schedule, shape), by_adam, cuda::fusion::always);
  };
  auto const expected = trained("sequential", alone);
  for (int const ranks : {2, 4}) {
    CAPTURE(ranks);
    check_equal(trained(ranks == 2 ? "gpipe" : "flush", {.ranks = ranks, .micro_batches = 4}), expected);
  }
}

TEST_CASE("asynchronous schedules over streams of one device train as on the host") {
  setting const s;
  for (auto const* schedule : {"1f1b", "1f1b-vsync", "2bw"}) {
    CAPTURE(schedule);
    for (int const ranks : {1, 2, 4}) {
#ifdef PIPEWRIGHT_QUICK_TESTS
      if (ranks != 4) continue;
#endif
      CAPTURE(ranks);
      auto const plan = plan_of(s, schedule, {.ranks = ranks, .micro_batches = 4});
      auto const expected = on_host(s, plan, by_momentum), found = on_device<float>(s, plan, by_momentum);
      CHECK(difference(found, expected, on_host(s, plan, pw::sgd{.rate = 0.})) < 1e-4);
      REQUIRE(found.losses.size() == expected.losses.size());
      for (std::size_t i = 0; i < found.losses.size(); ++i)
        CHECK(found.losses[i] == doctest::Approx(expected.losses[i]).epsilon(1e-5));
    }
  }
}

TEST_CASE("a step in the steady state allocates nothing on the device, and its host waits for the loss alone") {
  for (auto const* schedule : {"flush", "1f1b"}) {
    CAPTURE(schedule);
    setting const s{.dropout = 0.2f, .steps = 4};
    int steps = 0;
    auto const watched = [&](auto const& step) {
      if (++steps < s.steps) return step();
#ifdef PIPEWRIGHT_ON_DEVICE
      cudaMemPool_t pool{};
      pw::cuda::check(cudaDeviceGetDefaultMemPool(&pool, 0), "cudaDeviceGetDefaultMemPool");
      std::uint64_t used = 0, most = 0;
      pw::cuda::check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &most), "cudaMemPoolSetAttribute");
      pw::cuda::check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used), "cudaMemPoolGetAttribute");
      step();
      pw::cuda::check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &most), "cudaMemPoolGetAttribute");
      CHECK(most <= used);
#else
      auto const allocations = cuda_on_host::allocations, waits = cuda_on_host::waits;
      step();
      CHECK(cuda_on_host::allocations == allocations);
      // A loss for each micro-batch; and tokens and targets whose memory the last micro-batch still used.
      CHECK(cuda_on_host::waits - waits <= 4 + 2 * 4);
#endif
    };
    auto const plan = plan_of(s, schedule, alone);
    by_pipeline(
        s, plan, cut(cuda::model<cuda::bf16>(s.model()), 1), by_adam,
        [](auto const& of, auto const& f) { pw::cuda::loopback::run(of, f); }, [&](auto&) { return watched; });
    CHECK(steps == s.steps);
  }
}

TEST_CASE("a recorder tells when the device ran what, and marks each action") {
  setting const s;
  auto const plan = plan_of(s, "flush", {.ranks = 2, .micro_batches = 4});
  pw::cuda::loopback::run(plan, [&](auto& here) {
    pw::cuda::recorder seen(pw::cuda::context::here());
    auto training = pw::pipeline(plan, cut(cuda::model<float>(s.model()), 2), here, by_momentum, s.options(), seen);
    training.step(tokens_of_step{0});
    auto const taken = seen.take();
    CHECK(taken.size() == 9);  // forwards, backwards, an update
    CHECK(std::ranges::all_of(taken, [&](auto const& a) { return a.rank == here.rank() && a.end >= a.begin; }));
#ifndef PIPEWRIGHT_ON_DEVICE  // else ranges go to a profiler
    CHECK(cuda_on_host::ranges.empty());
    CHECK(cuda_on_host::ranges_so_far > 9);
#endif
    CHECK(seen.take().empty());
  });
}
