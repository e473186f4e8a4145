// SPDX-License-Identifier: Apache-2.0
// Once slots and stages have their sizes, training a GPT-2 allocates nothing.
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <string>

#include <doctest/doctest.h>

#include <pipewright/gpt2/data.hpp>
#include <pipewright/gpt2/model.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;

namespace {

thread_local int allocations = 0;

auto counted(std::size_t bytes, std::size_t alignment) -> void* {
  ++allocations;
  auto const whole = (bytes + alignment - 1) / alignment * alignment;
  if (auto* const p = std::aligned_alloc(alignment, whole == 0 ? alignment : whole)) return p;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t n) { return counted(n, alignof(std::max_align_t)); }
void* operator new[](std::size_t n) { return counted(n, alignof(std::max_align_t)); }
void* operator new(std::size_t n, std::align_val_t a) { return counted(n, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return counted(n, static_cast<std::size_t>(a)); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

TEST_CASE("a counted allocation shows") {
  auto const before = allocations;
  auto const made = gpt2::host::buffer(1000);
  CHECK(allocations == before + 1);
}

TEST_CASE("steps of a steady state allocate nothing") {
  auto const c = gpt2::configuration{.vocabulary = 256,
                                     .positions = 8,
                                     .width = 16,
                                     .heads = 2,
                                     .layers = 4,
                                     .embedding_dropout = 0.1f,
                                     .attention_dropout = 0.1f,
                                     .residual_dropout = 0.1f};
  auto const data = gpt2::text_data(gpt2::byte_tokenizer::encode(std::string(500, 'a') + std::string(500, 'b')), 8);
  for (auto const* schedule : {"sequential", "gpipe", "flush", "interleaved", "1f1b", "2bw"}) {
    CAPTURE(schedule);
    auto const plan = pw::make_plan(schedule, {.ranks = 3, .micro_batches = 6});
    std::atomic<int> found = 0;
    pw::in_process::run(plan, [&](pw::in_process::endpoint& here) {
      auto const sizes = plan.view().stages() == 6 ? std::vector{1, 1, 1, 1, 1, 1} : std::vector{2, 2, 2};
      auto training = pw::pipeline(plan, pw::balance(gpt2::model(c), sizes), here, pw::adamw(1e-3));
      auto const step = [&](int number) {
        training.step(gpt2::text_batch{.data = &data, .sequences = 2, .micro_batches = 6, .step = number});
      };
      for (int i = 0; i < 4; ++i) step(i);
      auto const before = allocations;
      for (int i = 4; i < 10; ++i) step(i);
      found += allocations - before;
      training.drain();
    });
    CHECK(found == 0);
  }
}
