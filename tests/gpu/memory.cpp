// SPDX-License-Identifier: Apache-2.0
// What a training takes of the device's memory, under every schedule, against what the plan's slots and the bytes that layers say
// foretell. All ranks are streams of one device.
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/cuda/loopback.hpp>
#include <pipewright/gpt2_cuda/backend.hpp>
#include <pipewright/partition/balanced_sizes.hpp>
#include <pipewright/partition/rank_memory.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/profile/profile_layers.hpp>

namespace {

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
using bf16 = gpt2::cuda::bf16;

gpt2::configuration const sizes{.vocabulary = 8192, .positions = 512, .width = 512, .heads = 8, .layers = 14};
gpt2::batch_shape const of{8, 512};
int const layers = sizes.layers + 2;

struct tokens {
  void input(int, gpt2::token_batch& to) const {
    to = {of, std::vector<std::int32_t>(static_cast<std::size_t>(of.tokens()), 3)};
  }
  void target(int micro_batch, gpt2::token_batch& to) const { input(micro_batch, to); }
};

pw::adam const optimizer{.rate = 1e-3};

/// The pool from which all memory comes, and goes back.
cudaMemPool_t pool() {
  cudaMemPool_t found{};
  pw::cuda::check(cudaDeviceGetDefaultMemPool(&found, 0), "cudaDeviceGetDefaultMemPool");
  return found;
}
std::uint64_t most_reserved() {
  std::uint64_t bytes = 0;
  pw::cuda::check(cudaMemPoolGetAttribute(pool(), cudaMemPoolAttrReservedMemHigh, &bytes), "cudaMemPoolGetAttribute");
  return bytes;
}
double bytes_taken() {
  pw::cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  std::size_t free = 0, total = 0;
  pw::cuda::check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<double>(total - free);
}

struct bytes {
  double now = 0;   ///< of the device, after a few steps, less what was taken before
  double most = 0;  ///< that the pool had of it at one time
};

/// Of all ranks together.
bytes taken_by(pw::plan_view plan, std::vector<int> const& cut) {
  bytes found;
  pw::cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  pw::cuda::check(cudaMemPoolTrimTo(pool(), 0), "cudaMemPoolTrimTo");
  std::uint64_t none = 0;
  pw::cuda::check(cudaMemPoolSetAttribute(pool(), cudaMemPoolAttrReservedMemHigh, &none), "cudaMemPoolSetAttribute");
  auto const before = bytes_taken();
  auto const reserved = most_reserved();
  std::barrier together(plan.facts.ranks);
  pw::cuda::loopback::run(plan, [&](auto& here) {
    auto training = pw::pipeline(plan, pw::balance(gpt2::cuda::model<bf16>(sizes), cut), here, optimizer);
    for (int step = 0; step < 3; ++step) training.step(tokens{});
    training.drain();
    together.arrive_and_wait();
    if (here.rank() == 0) found = {bytes_taken() - before, static_cast<double>(most_reserved() - reserved)};
    together.arrive_and_wait();
  });
  return found;
}

/// What a rank's context has for all of its stages: cuBLASLt's workspace, and scratch as a block asks for it.
double of_context(std::vector<int> const& stages, std::vector<int> const& cut) {
  bool has_block = false;
  int first = 0;
  for (std::size_t s = 0; s < cut.size(); first += cut[s++])
    if (std::ranges::find(stages, static_cast<int>(s)) != stages.end())
      for (int layer = first; layer < first + cut[s]; ++layer) has_block |= layer > 0 && layer + 1 < layers;
  gpt2::attention_shape const attending{of.sequences, of.length, sizes.heads, sizes.width};
  double const wide = 4. * of.tokens() * sizes.width,
               queries = static_cast<double>(gpt2::cuda::attention_scratch(attending));
  return 32. * (1 << 20) + (has_block ? sizeof(bf16) * (wide + queries) : 0.);
}

}  // namespace

TEST_CASE("every schedule takes what is foretold") {
  // A first training has the device load kernels, and cuBLASLt its own.
  auto const profile = [] {
    pw::cuda::context where;
    return pw::profile_layers(
               pw::balance(gpt2::cuda::model<bf16>(sizes), std::vector<int>(static_cast<std::size_t>(layers), 1)),
               tokens{}, of.sequences, optimizer, {.warm_up = 1, .micro_batches = 1})
        .profile;
  }();
  std::printf(
      "\n| schedule | ranks | after 3 steps | most | foretold | foretold over most |\n"
      "| --- | --- | --- | --- | --- | --- |\n");
  for (std::string const schedule : {"sequential", "gpipe", "flush", "interleaved", "1f1b", "1f1b-vsync", "2bw"})
    for (int const ranks : {1, 4}) {
      CAPTURE(schedule);
      CAPTURE(ranks);
      pw::shape const shape{.ranks = ranks, .micro_batches = 8, .chunks = schedule == "interleaved" ? 2 : 1};
      auto const plan = pw::make_plan(schedule, shape);
      auto const cut = pw::balanced_sizes(std::vector<double>(static_cast<std::size_t>(layers), 1.), shape.stages());
      double foretold = 0;
      auto const by_rank = pw::memory_of_ranks(plan, profile, cut);
      for (int r = 0; r < ranks; ++r) {
        std::vector<int> mine;
        for (int s = 0; s < shape.stages(); ++s)
          if (plan.view().rank_of_stage[s] == r) mine.push_back(s);
        foretold += by_rank[static_cast<std::size_t>(r)].total() + of_context(mine, cut);
      }
      auto const taken = taken_by(plan, cut);
      std::printf("| %s | %d | %.1f MiB | %.1f MiB | %.1f MiB | %.4f |\n", schedule.c_str(), ranks,
                  taken.now / (1 << 20), taken.most / (1 << 20), foretold / (1 << 20), foretold / taken.most);
      std::fflush(stdout);
      CHECK(std::abs(foretold / taken.most - 1) <= 0.03);
    }
  std::printf("\n");
}
