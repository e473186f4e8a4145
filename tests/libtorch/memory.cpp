// SPDX-License-Identifier: Apache-2.0
// A profile of LibTorch's GPT-2 says how much memory each rank takes under every schedule: to 5 % of what allocators count.
#include <support/counting_allocator.hpp>
#include <support/counting_new.hpp>
#include <support/doctest_with_torch.hpp>
#include <support/gpt2_memory.hpp>

#include <pipewright/gpt2_libtorch/model.hpp>
#include <pipewright/libtorch/memory_meter.hpp>

namespace pw = pipewright;

TEST_CASE("every schedule, with and without recomputation") {
  at::set_num_threads(1);
  support::count_torchs_memory();
  support::check_gpt2_memory<pw::libtorch::memory_meter>(
      [](pw::gpt2::configuration const& c) { return pw::gpt2_libtorch::model(c); });
}
