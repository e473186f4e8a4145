// SPDX-License-Identifier: Apache-2.0
// processes: 4
// Over Gloo, under every schedule: the GPT-2 of torch's modules, and the host's.
#define DOCTEST_CONFIG_IMPLEMENT
#include <gloo/world.hpp>
#include <support/training_of_processes.hpp>

#include <pipewright/gpt2/model.hpp>
#include <pipewright/gpt2_libtorch/model.hpp>

namespace {
namespace pw = pipewright;
auto const over_gloo = [](int ranks, auto&& f) { support::run_over_gloo(ranks, f); };
}  // namespace

TEST_CASE("LibTorch's GPT-2 over Gloo") {
  support::check_gpt2(over_gloo, [](auto const& c) { return pw::gpt2_libtorch::model(c); });
}
TEST_CASE("the host GPT-2 over Gloo") {
  support::check_gpt2(over_gloo, [](auto const& c) { return pw::gpt2::model(c); });
}

int main(int argc, char** argv) {
  at::set_num_threads(1);
  return support::test_together(argc, argv);
}
