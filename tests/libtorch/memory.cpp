// SPDX-License-Identifier: Apache-2.0
// A profile of LibTorch's GPT-2 says how much memory each rank takes under every schedule: to 5 % of what allocators count.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <support/counting_allocator.hpp>
#include <support/counting_new.hpp>
#include <support/doctest_with_torch.hpp>
#include <support/most_bytes.hpp>

#include <pipewright/gpt2_libtorch/model.hpp>
#include <pipewright/libtorch/memory_meter.hpp>
#include <pipewright/partition/balanced_sizes.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/profile/profile_layers.hpp>
#include <pipewright/stage/balance.hpp>

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
  support::check_most(
      pw::memory_of_ranks(plan, profile, cut),
      support::most_bytes<Mode>(
          plan, [&] { return pw::balance(pw::gpt2_libtorch::model(sizes), cut); }, tokens{}, pw::adam{.rate = 1e-3}));
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
