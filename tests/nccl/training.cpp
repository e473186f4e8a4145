// SPDX-License-Identifier: Apache-2.0
// GPT-2's CUDA backend over NCCL, with all that a step's ranks tell each other: whatever carries it, a training has the sequential
// bits, and asks for no pinned memory once ranks are connected, which might wait for receives that are queued ahead.
#include <atomic>
#include <cstddef>
#include <memory>
#include <string_view>

#include <cuda/trainings.hpp>
#include <doctest/doctest.h>
#include <nccl/ranks.hpp>

#include <pipewright/cuda/loopback.hpp>
#include <pipewright/cuda/step_graph.hpp>
#include <pipewright/gpt2_cuda/backend.hpp>

namespace {

using namespace small_training;
namespace cuda = gpt2::cuda;

auto const by_adam = pw::adamw(1e-2, 0.1);

/// A tied embedding, whose two gradients are summed, and one norm of all stages.
setting const with_facts{.dropout = 0.2f, .tied = true, .clip = 0.5};

outcome train(setting const& s, pw::plan_view plan, auto const& run, auto const& by) {
  return by_pipeline(s, plan, cut(cuda::model<float>(s.model()), plan.stages()), by_adam, run, by);
}
outcome train(setting const& s, pw::plan_view plan, auto const& run) { return train(s, plan, run, as_it_is); }
outcome alone(setting const& s) {
  auto const plan =
      pw::make_plan("sequential", {.ranks = 1, .micro_batches = 4}, s.needs(1, pw::recompute_mode::never));
  return train(s, plan.view(), [](auto const& ranks, auto f) { pw::cuda::loopback::run(ranks, f); });
}
pw::dynamic_plan plan_of(setting const& s, char const* schedule, int ranks) {
  int const chunks = schedule == std::string_view("interleaved") ? 2 : 1;
  return pw::make_plan(schedule, {.ranks = ranks, .micro_batches = 4, .chunks = chunks},
                       s.needs(ranks * chunks, pw::recompute_mode::never));
}

/// Runs a rank's steps as graphs, and counts those of all ranks.
struct as_graph {
  std::atomic<std::size_t>&graphs, &launches;
  std::unique_ptr<pw::cuda::step_graph> of = std::make_unique<pw::cuda::step_graph>(pw::cuda::context::here());

  as_graph(std::atomic<std::size_t>& all_graphs, std::atomic<std::size_t>& all_launches)
      : graphs{all_graphs}, launches{all_launches} {}
  as_graph(as_graph const&) = delete;
  as_graph& operator=(as_graph const&) = delete;
  ~as_graph() {
    graphs += of->graphs();
    launches += of->launches();
  }
  void operator()(auto const& step) {
    (*of)(step);
    CHECK(of->why_not() == "");
  }
};

/// Passes all on, and notes how much pinned memory there was once ranks had agreed.
struct noting : nccl_ranks::endpoint {
  using nccl_ranks::endpoint::endpoint;
  static inline std::atomic<std::size_t> since_agreed = 0;
  void agree(std::string_view digest) {
    nccl_ranks::endpoint::agree(digest);
    since_agreed = cuda_on_host::pinned_allocations.load();
  }
};

}  // namespace

TEST_CASE("a training with a tied weight and a norm of all stages has the sequential bits") {
  auto const expected = alone(with_facts);
  for (auto const& how : nccl_ranks::ways)
    for (int const ranks : {2, 4})
      for (auto const* schedule : {"gpipe", "flush", "interleaved"}) {
#ifdef PIPEWRIGHT_QUICK_TESTS
        if (schedule != std::string_view(ranks == 2 ? "interleaved" : "flush")) continue;
#endif
        if (how.one_communicator && schedule == std::string_view("interleaved")) continue;
        CAPTURE(how.shapes == pw::nccl::fixed);
        CAPTURE(how.one_communicator);
        CAPTURE(ranks);
        CAPTURE(schedule);
        auto const plan = plan_of(with_facts, schedule, ranks);
        check_equal(train(with_facts, plan.view(),
                          [&](pw::plan_view of, auto f) { nccl_ranks::run<noting>(of.facts.ranks, f, how); }),
                    expected);
        CHECK(cuda_on_host::pinned_allocations.load() == noting::since_agreed.load());
      }
  CHECK(nccl_on_host::alive() == 0);
}

TEST_CASE("and so it has where each rank runs its steps as graphs, NCCL's calls and all") {
  for (bool const has_facts : {false, true}) {
    auto s = has_facts ? with_facts : setting{.dropout = 0.2f};
    s.steps = 8;
    auto const expected = alone(s);
    for (int const ranks : {2, 4})
      for (auto const* schedule : {"gpipe", "flush", "interleaved"}) {
#ifdef PIPEWRIGHT_QUICK_TESTS
        if (schedule != std::string_view(ranks == 2 ? "interleaved" : "flush")) continue;
#endif
        CAPTURE(has_facts);
        CAPTURE(ranks);
        CAPTURE(schedule);
        auto const plan = plan_of(s, schedule, ranks);
        std::atomic<std::size_t> graphs = 0, launches = 0;
        check_equal(train(
                        s, plan.view(),
                        [&](pw::plan_view of, auto f) {
                          nccl_ranks::run(of.facts.ranks, f, {.shapes = pw::nccl::fixed, .deadline = 60});
                        },
                        [&](auto&) { return as_graph(graphs, launches); }),
                    expected);
        auto const all = static_cast<std::size_t>(ranks);
        // Where hosts tell each other facts, what is before and after is a graph of its own; but all steps are alike.
        CHECK(launches.load() == graphs.load() * 6);
        if (!has_facts) CHECK(graphs.load() == all);
      }
  }
  CHECK(nccl_on_host::alive() == 0);
}

TEST_CASE("and so it has where the hosts speak by the transport of MPI and Gloo") {
  auto const expected = alone(with_facts);
  for (auto const& how : nccl_ranks::ways) {
    CAPTURE(how.shapes == pw::nccl::fixed);
    CAPTURE(how.one_communicator);
    auto const plan = plan_of(with_facts, "flush", 4);
    check_equal(train(with_facts, plan.view(), [&](auto const&, auto f) { nccl_ranks::run_over_wires(4, f, how); }),
                expected);
  }
  CHECK(nccl_on_host::alive() == 0);
}
