// SPDX-License-Identifier: Apache-2.0
// Steps as CUDA graphs: the bits of steps that are queued as ever, one graph where each step is like the one before, and a sentence
// where none is. Here without a device (on_host/).
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>
#include <gpt2/small_training.hpp>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/loopback.hpp>
#include <pipewright/cuda/shared_steps.hpp>
#include <pipewright/cuda/step_graph.hpp>
#include <pipewright/gpt2_cuda/backend.hpp>
#include <pipewright/gpt2_cuda/instantiate.cuh>

namespace {

using namespace small_training;
namespace cuda = gpt2::cuda;
using pw::cuda::context;
using pw::cuda::step_graph;

constexpr int many_steps = 10;

struct outcome_of_graphs {
  std::vector<double> losses, norms;
  std::map<std::string, std::vector<float>> weights;
  std::size_t graphs = 0, launches = 0;
  std::string why_not;
};

/// Ranks as streams of one device, their steps as graphs or not. What rank 0 sees, but the weights of all.
template<class T> outcome_of_graphs train(setting const& s, char const* schedule, int ranks, bool as_graphs,
                                          auto const& optimizer) {
  outcome_of_graphs o;
  std::mutex mutex;
  auto const plan =
      pw::make_plan(schedule, {.ranks = ranks, .micro_batches = 4}, s.needs(ranks, pw::recompute_mode::never));
  pw::cuda::shared_steps all(ranks, 60);
  pw::cuda::loopback::run(plan, [&](auto& here) {
    step_graph graph(context::here(), all);
    auto training =
        pw::pipeline(plan, cut(cuda::model<T>(s.model()), pw::plan_view(plan).stages()), here, optimizer, s.options());
    std::vector<double> losses, norms;
    for (int step = 0; step < many_steps; ++step) {
      pw::step_result told;
      auto const run = [&] { told = training.step(tokens_of_step{step}); };
      if (as_graphs) graph(run);
      else run();
      losses.push_back(told.loss);
      norms.push_back(told.gradient_norm);
    }
    training.drain();
    std::lock_guard const lock(mutex);
    training.for_each_parameter([&](int, std::string_view name, std::span<float> values, pw::parameter_options) {
      o.weights[std::string(name)].assign(values.begin(), values.end());
    });
    if (here.rank() == ranks - 1) o.losses = losses, o.norms = norms;
  });
  o.graphs = all.graphs().graphs();
  o.launches = all.graphs().launches();
  o.why_not = all.graphs().why_not();
  return o;
}

/// A rate that is another one in each step.
auto const falling = pw::adamw(pw::learning_rate(1e-2, pw::rate_shape::cosine, 3, 20), 0.1);

}  // namespace

TEST_CASE_TEMPLATE("steps as graphs give the bits of steps that are queued", T, float, cuda::bf16) {
#ifdef PIPEWRIGHT_QUICK_TESTS
  if (std::is_same_v<T, float>) return;
#endif
  for (auto const* schedule : {"sequential", "1f1b"})
    for (double const clip : {0., 0.5}) {
      if (clip > 0 && schedule == std::string_view("1f1b")) continue;  // which cannot
      CAPTURE(schedule);
      setting const s{.clip = clip};
      auto const queued = train<T>(s, schedule, 1, false, falling), launched = train<T>(s, schedule, 1, true, falling);
      CHECK(queued.losses == launched.losses);
      CHECK(queued.norms == launched.norms);
      CHECK(queued.weights == launched.weights);
      CHECK(launched.why_not == "");
      CHECK(launched.launches >= many_steps - 2);
      // One of a whole step; where a norm is asked for in between, one up to there and one of the rest.
      if (schedule == std::string_view("sequential")) CHECK(launched.graphs == (clip > 0 ? 2 : 1));
    }
}

TEST_CASE("the steps of all ranks of a device are one graph, and have the bits of queued ones") {
  struct one {
    int ranks;
    char const* schedule;
    double clip;
    std::size_t most;  // graphs: the periods of weight versions and slots of an asynchronous schedule
  };
  for (auto const& [ranks, schedule, clip, most] : {
           one{2, "gpipe", 0, 1},
           one{2, "interleaved", 0.5, 5},
           one{2, "1f1b", 0, 12},
           one{4, "flush", 0, 1},
           one{4, "flush", 0.5, 3},
#ifndef PIPEWRIGHT_QUICK_TESTS
           one{2, "flush", 0.5, 3},
           one{4, "gpipe", 0.5, 3},
           one{4, "interleaved", 0, 1},
           one{4, "interleaved", 0.5, 5},
           one{4, "1f1b", 0, 12},
           one{4, "2bw", 0, 12},
#endif
       }) {
    CAPTURE(ranks);
    CAPTURE(schedule);
    CAPTURE(clip);
    setting const s{.clip = clip};
    auto const queued = train<float>(s, schedule, ranks, false, falling),
               launched = train<float>(s, schedule, ranks, true, falling);
    CHECK(queued.losses == launched.losses);
    CHECK(queued.norms == launched.norms);
    CHECK(queued.weights == launched.weights);
    CHECK(launched.why_not == "");
    CHECK(launched.graphs <= most);
    // A norm is asked for in between: what is before and after it are graphs of their own.
    if (clip > 0) CHECK(launched.launches == launched.graphs * (many_steps - 2));
    else CHECK(launched.launches == many_steps - 2);
  }
}

TEST_CASE("a rank that waits where no transport tells of it is not waited for, and nothing is lost") {
  pw::cuda::shared_steps all(2);
  std::atomic<bool> is_set = false;
  pw::cuda::loopback::run(2, [&](auto& here) {
    auto& where = context::here();
    step_graph graph(where, all);
    pw::cuda::buffer<int> number(1);
    for (int step = 0; step < 3; ++step)
      graph([&] {
        pw::cuda::queue(
            "set", where.stream(), +[](cudaStream_t on, int* to) { return cudaMemsetAsync(to, 7, sizeof(int), on); },
            number.data());
        if (step < 2) return;
        if (here.rank() == 0) {
          where.wait();
          is_set = true;
        }
        while (!is_set) std::this_thread::yield();
      });
    int found = 0;
    pw::cuda::download<int>(number.data(), {&found, 1});
    CHECK(found == 0x07070707);
  });
  CHECK(all.graphs().graphs() <= 1);  // of what was written after that
}

TEST_CASE("a rank that throws in a step of all is heard by the others, and one that begins none is named") {
  pw::cuda::shared_steps all(2, 0.2);
  std::string said;
  auto const run = [&](auto const& step_of) {
    try {
      pw::cuda::loopback::run(2, [&](auto& here) {
        step_graph graph(context::here(), all);
        step_of(here, graph);
      });
    } catch (std::exception const& e) {
      said = e.what();
    }
  };
  run([&](auto& here, step_graph& graph) {
    int number = 0;
    auto const channel = here.open({.source = 0, .destination = 1, .carries = pw::traffic::activation});
    for (int step = 0; step < 4; ++step)
      graph([&] {
        if (here.rank() == 0 && step == 3) throw pw::error("no");
        auto const message = pw::message_of(number);
        here.wait(here.rank() == 0 ? here.send(channel, message) : here.post(channel, message));
      });
  });
  CHECK(said.find("no") != std::string::npos);
  run([&](auto& here, step_graph& graph) {
    for (int step = 0; step < 3 + here.rank(); ++step) graph([] {});
    if (here.rank() == 0) std::this_thread::sleep_for(std::chrono::seconds(1));
  });
  CHECK(said.find("rank 1 waited for rank 0 to begin its step") != std::string::npos);
}

TEST_CASE("where arguments change in every step, steps are queued as ever, and it is said why") {
  setting const s{.dropout = 0.2f};
  context where;
  step_graph graph(where);
  pw::cuda::buffer<int> number(1);
  for (int step = 0; step < 60; ++step)
    graph([&] {
      pw::cuda::queue(
          "set", where.stream(),
          +[](cudaStream_t on, int* to, int value) { return cudaMemsetAsync(to, value, sizeof(int), on); },
          number.data(), step);
    });
  CHECK(graph.why_not().starts_with("no step has been like one of the 32 before: something changes"));
  int found = 0;
  pw::cuda::download<int>(number.data(), {&found, 1});
  CHECK(found == 59 * 0x01010101);
  auto const queued = train<float>(s, "sequential", 1, false, falling),
             launched = train<float>(s, "sequential", 1, true, falling);
  CHECK(queued.weights == launched.weights);
}

TEST_CASE("where CUDA captures nothing, steps are queued as ever, and it is said why") {
  context where;
  step_graph graph(where);
  pw::cuda::buffer<int> number(1);
  cuda_on_host::fail("cudaGraphInstantiate", 0, cudaErrorStreamCaptureUnsupported);
  for (int step = 0; step < 4; ++step) graph([&] { number.clear(); });
  CHECK(graph.why_not() == "CUDA cannot capture a step: cudaErrorStreamCaptureUnsupported");
  CHECK(graph.launches() == 0);
}

TEST_CASE("a step that throws leaves nothing written down") {
  context where;
  step_graph graph(where);
  pw::cuda::buffer<int> number(1);
  auto const step = [&](bool fails) {
    number.clear();
    if (fails) throw pw::error("no");
  };
  for (int i = 0; i < 3; ++i) graph([&] { step(false); });
  CHECK_THROWS_AS(graph([&] { step(true); }), pw::error);
  CHECK_FALSE(where.writes_down());
  pw::cuda::upload<int>(std::vector{7}, number.data());
  int found = 0;
  pw::cuda::download<int>(number.data(), {&found, 1});
  CHECK(found == 7);
}
