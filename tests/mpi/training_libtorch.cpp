// SPDX-License-Identifier: Apache-2.0
// processes: 4
// The GPT-2 of torch's modules over MPI, under every schedule.
#include <mpi/world.hpp>
#include <support/doctest_with_torch.hpp>
#include <support/training_of_processes.hpp>

#include <pipewright/gpt2_libtorch/model.hpp>

TEST_CASE("LibTorch's GPT-2 over MPI") {
  at::set_num_threads(1);
  support::check_gpt2([](int ranks, auto&& f) { support::run_over_mpi(ranks, f); },
                      [](auto const& c) { return pipewright::gpt2_libtorch::model(c); });
}
