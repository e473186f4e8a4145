// SPDX-License-Identifier: Apache-2.0
// processes: 4
// A toy model whose boundaries are tuples, optionals and structs, and the host GPT-2.
#include <doctest/doctest.h>
#include <mpi/world.hpp>
#include <support/training_of_processes.hpp>

#include <pipewright/gpt2/model.hpp>

namespace {

namespace pw = pipewright;

auto const over_mpi = [](int ranks, auto&& f) { support::run_over_mpi(ranks, f); };

}  // namespace

TEST_CASE("a model of unlike boundaries over MPI") {
  for (int const ranks : {1, 2, 4})
    for (auto const& how : support::schedules) {
      support::mixture const m{.options = {.seed = 11}, .micro_batches = 5};
      auto const wants = [&](int stages) { return m.wants(stages); };
      auto const cut = [](int stages) { return toys::toy_stages<double>(stages); };
      support::check<double>(over_mpi, ranks, how, m.micro_batches, cut, wants, support::toy_batches,
                             {.calls = "ssesds", .options = m.options});
    }
}

TEST_CASE("the host GPT-2 over MPI, sequences of another length each step") {
  support::check_gpt2(over_mpi, [](auto const& c) { return pw::gpt2::model(c); });
}
