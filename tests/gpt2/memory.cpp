// SPDX-License-Identifier: Apache-2.0
// A profile of the host's GPT-2 says how much memory each rank takes under every schedule: to 5 % of what its allocator counts.
// sanitizers: --full
#include <doctest/doctest.h>
#include <support/counting_new.hpp>
#include <support/gpt2_memory.hpp>

#include <pipewright/gpt2/model.hpp>

namespace gpt2 = pipewright::gpt2;

TEST_CASE("every schedule, with and without recomputation") {
  support::check_gpt2_memory<gpt2::host::scratch_meter>([](gpt2::configuration const& c) { return gpt2::model(c); });
}
