// SPDX-License-Identifier: Apache-2.0
// A profile of LibTorch's GPT-2 says how much memory each rank takes under every schedule: to 5 % of what allocators count.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <support/counting_allocator.hpp>
#include <support/doctest_with_torch.hpp>

#include <pipewright/gpt2_libtorch/model.hpp>
#include <pipewright/libtorch/memory_meter.hpp>
#include <pipewright/partition/rank_memory.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/profile/profile_layers.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/transport/in_process.hpp>

namespace {

/// Before every piece of memory that is not torch's: the optimizer's states, the engine's own.
struct alignas(std::max_align_t) label {
  std::size_t bytes, taker;
};

}  // namespace

void* operator new(std::size_t bytes) {
  auto* const made = static_cast<label*>(std::malloc(sizeof(label) + bytes));
  if (made == nullptr) throw std::bad_alloc();
  *made = {bytes, support::counted_bytes::taker};
  support::counted_bytes::add(made->taker, static_cast<std::int64_t>(bytes));
  return made + 1;
}
void operator delete(void* at) noexcept {
  if (at == nullptr) return;
  auto* const made = static_cast<label*>(at) - 1;
  support::counted_bytes::add(made->taker, -static_cast<std::int64_t>(made->bytes));
  std::free(made);
}
void operator delete(void* at, std::size_t) noexcept { operator delete(at); }

namespace {

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;

constexpr gpt2::configuration sizes{.vocabulary = 300, .positions = 64, .width = 64, .heads = 4, .layers = 14};
constexpr gpt2::batch_shape of{4, 64};
constexpr int layers = sizes.layers + 2;

struct tokens {
  void input(int, gpt2::token_batch& to) const {
    to = {of, std::vector<std::int32_t>(static_cast<std::size_t>(of.tokens()), 3)};
  }
  void target(int micro_batch, gpt2::token_batch& to) const { input(micro_batch, to); }
};

template<pw::recompute_mode Mode>
void compare(pw::model_profile const& profile, std::string const& schedule, pw::shape shape) {
  CAPTURE(schedule);
  CAPTURE(shape.ranks);
  CAPTURE(static_cast<int>(Mode));
  auto const plan = pw::make_plan(schedule, shape, {.recompute = Mode});
  auto const cut = pw::balanced_sizes(std::vector<double>(layers, 1.), shape.stages());
  auto const predicted = pw::memory_of_ranks(plan, profile, cut);
  std::vector<double> measured(predicted.size());
  pw::in_process::run(shape.ranks, [&](auto& here) {
    support::counted_bytes::taker = static_cast<std::size_t>(here.rank()) + 1;
    auto const before = support::counted_bytes::now();
    auto const stages = [&] {
      auto made = pw::balance(pw::gpt2_libtorch::model(sizes), cut);
      if constexpr (Mode == pw::recompute_mode::never) return made;
      else return pw::recompute_each<Mode>(std::move(made));
    }();
    auto training = pw::pipeline(plan, stages, here, pw::adam{.rate = 1e-3});
    training.step(tokens{});  // until then modules have their own first weights too
    support::counted_bytes::restart();
    for (int step = 0; step < 2; ++step) training.step(tokens{});
    training.drain();
    measured[static_cast<std::size_t>(here.rank())] = static_cast<double>(support::counted_bytes::most() - before);
  });
  for (std::size_t r = 0; r < predicted.size(); ++r) {
    CAPTURE(r);
    CAPTURE(predicted[r].total());
    CAPTURE(measured[r]);
    CHECK(std::abs(predicted[r].total() - measured[r]) <= 0.05 * measured[r]);
  }
}

}  // namespace

TEST_CASE("every schedule, with and without recomputation") {
  at::set_num_threads(1);
  support::count_torchs_memory();
  auto const profile = pw::profile_layers<pw::libtorch::memory_meter>(
                           pw::balance(pw::gpt2_libtorch::model(sizes), std::vector<int>(layers, 1)), tokens{},
                           of.sequences, pw::adam{.rate = 1e-3}, {.warm_up = 1, .micro_batches = 3})
                           .profile;
  for (std::string const schedule : {"sequential", "gpipe", "1f1b", "1f1b-vsync", "2bw", "flush", "interleaved"})
    for (int const ranks : {1, 2, 4}) {
      pw::shape const shape{.ranks = ranks, .micro_batches = 4, .chunks = schedule == "interleaved" ? 2 : 1};
      compare<pw::recompute_mode::never>(profile, schedule, shape);
      compare<pw::recompute_mode::always>(profile, schedule, shape);
      compare<pw::recompute_mode::except_last>(profile, schedule, shape);
    }
}
