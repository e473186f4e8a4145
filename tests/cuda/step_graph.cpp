// SPDX-License-Identifier: Apache-2.0
// Steps as CUDA graphs: the bits of steps that are queued as ever, one graph where each step is like the one before, and a sentence
// where none is.
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <vector>

#include <cuda/trainings.hpp>
#include <doctest/doctest.h>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/loopback.hpp>
#include <pipewright/cuda/shared_steps.hpp>
#include <pipewright/cuda/step_graph.hpp>
#include <pipewright/gpt2/model.hpp>
#include <pipewright/gpt2_cuda/backend.hpp>
#include <pipewright/transport/in_process.hpp>

namespace {

using namespace small_training;
namespace cuda = gpt2::cuda;
using pw::cuda::context;
using pw::cuda::step_graph;

constexpr int many_steps = 10;

struct outcome_of_graphs {
  outcome told;
  std::size_t graphs = 0, launches = 0;
  std::string why_not;
};

outcome on_host(setting const& s, char const* schedule, auto const& optimizer) {
  auto const plan = pw::make_plan(schedule, {.ranks = 1, .micro_batches = 4}, s.needs(1, pw::recompute_mode::never));
  return by_pipeline(s, plan, cut(gpt2::model(s.model()), 1), optimizer,
                     [](auto const& of, auto const& f) { pw::in_process::run(of, f); });
}
/// Ranks as streams of one device, their steps as graphs or not.
template<class T> outcome_of_graphs on_device(setting const& s, char const* schedule, int ranks, bool as_graphs,
                                              auto const& optimizer) {
  auto const plan =
      pw::make_plan(schedule, {.ranks = ranks, .micro_batches = 4}, s.needs(ranks, pw::recompute_mode::never));
  pw::cuda::shared_steps all(ranks, 60);
  auto told = by_pipeline(
      s, plan, cut(cuda::model<T>(s.model()), pw::plan_view(plan).stages()), optimizer,
      [](auto const& of, auto const& f) { pw::cuda::loopback::run(of, f); },
      [&](auto&) {
        return [as_graphs, graph = std::make_unique<step_graph>(context::here(), all)](auto const& step) {
          if (as_graphs) (*graph)(step);
          else step();
        };
      });
  return {std::move(told), all.graphs().graphs(), all.graphs().launches(), all.graphs().why_not()};
}

/// The norm of the difference of all weights over that of the weights.
double difference(outcome const& found, outcome const& expected) {
  double off = 0, all = 0;
  for (auto const& [name, values] : expected.weights)
    for (std::size_t i = 0; i < values.size(); ++i) {
      off += std::pow(found.weights.at(name)[i] - values[i], 2);
      all += std::pow(values[i], 2);
    }
  return std::sqrt(off / all);
}

/// A rate that is another one in each step.
auto const falling = pw::adamw(pw::learning_rate(1e-2, pw::rate_shape::cosine, 3, 20), 0.1);

struct way_to_train {
  int ranks;
  char const* schedule;
  float dropout;
  double clip;
  std::size_t graphs;    // those of an asynchronous schedule come back with its weight versions and slots
  std::size_t launches;  // in a step: where a norm is asked for, what is before and after it are graphs of their own
};
template<class T> void check_alike(way_to_train const& each) {
  CAPTURE(each.ranks);
  CAPTURE(each.schedule);
  CAPTURE(each.dropout);
  CAPTURE(each.clip);
  setting const s{.dropout = each.dropout, .clip = each.clip, .steps = many_steps};
  auto const queued = on_device<T>(s, each.schedule, each.ranks, false, falling),
             launched = on_device<T>(s, each.schedule, each.ranks, true, falling);
  check_equal(queued.told, launched.told);
  CHECK(launched.why_not == "");
  CHECK(launched.graphs == each.graphs);
  CHECK(launched.launches == each.launches * (many_steps - 2));
}

}  // namespace

TEST_CASE_TEMPLATE("steps as graphs give the bits of steps that are queued", T, float, cuda::bf16) {
#ifdef PIPEWRIGHT_QUICK_TESTS
  if (std::is_same_v<T, float>) return;
#endif
  for (auto const& each : {way_to_train{1, "sequential", 0.f, 0., 1, 1}, way_to_train{1, "sequential", 0.2f, 0.5, 2, 2},
#ifndef PIPEWRIGHT_QUICK_TESTS
                           way_to_train{1, "1f1b", 0.f, 0., 3, 1},
#endif
                           way_to_train{1, "1f1b", 0.2f, 0., 3, 1}})
    check_alike<T>(each);
}

TEST_CASE("the steps of all ranks of a device are one graph, and have the bits of queued ones") {
  for (auto const& each : {
           way_to_train{2, "gpipe", 0.f, 0., 1, 1},
           way_to_train{2, "interleaved", 0.f, 0.5, 5, 5},
           way_to_train{2, "1f1b", 0.2f, 0., 3, 1},
           way_to_train{4, "flush", 0.2f, 0., 1, 1},
           way_to_train{4, "flush", 0.f, 0.5, 3, 3},
#ifndef PIPEWRIGHT_QUICK_TESTS
           way_to_train{2, "flush", 0.f, 0.5, 3, 3},
           way_to_train{4, "gpipe", 0.f, 0.5, 3, 3},
           way_to_train{4, "interleaved", 0.f, 0., 1, 1},
           way_to_train{4, "interleaved", 0.2f, 0.5, 5, 5},
           way_to_train{4, "1f1b", 0.f, 0., 7, 1},
           way_to_train{4, "2bw", 0.f, 0., 6, 1},
#endif
       })
    check_alike<float>(each);
}

TEST_CASE("graphs of steps with dropout drop in each step what the host does") {
  setting const s{.dropout = 0.2f, .steps = many_steps};
  pw::sgd const by_momentum{.rate = 0.1, .momentum = 0.9};
  auto const expected = on_host(s, "1f1b", by_momentum);
  auto const found = on_device<float>(s, "1f1b", 1, true, by_momentum);
  CHECK(found.launches >= many_steps - 2);
  REQUIRE(found.told.losses.size() == expected.losses.size());
  for (std::size_t i = 0; i < expected.losses.size(); ++i)
    CHECK(found.told.losses[i] == doctest::Approx(expected.losses[i]).epsilon(1e-5));
  CHECK(difference(found.told, expected) < 1e-4);
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

#ifndef PIPEWRIGHT_ON_DEVICE
/// Notes whether the device had done with it whenever it was given another shape, which may free its memory.
struct watched {
  pw::cuda::buffer<int> values;
  std::atomic<bool> const* is_done = nullptr;
  bool was_done = true;

  void for_each_part(auto&& visit) { visit(values); }
  std::vector<std::int64_t> shape() const { return values.shape(); }
  void reshape(std::span<std::int64_t const> numbers) {
    if (numbers[0] != shape()[0]) was_done = was_done && (is_done == nullptr || *is_done);
    values.reshape(numbers);
  }
};

TEST_CASE("a slot may grow in a step that is written down, once the device has done with it") {
  pw::cuda::shared_steps all(2);
  std::atomic<bool> is_done = false, is_posted = false;
  pw::cuda::loopback::run(2, [&](auto& here) {
    auto& where = context::here();
    step_graph graph(where, all);
    int const channel = here.open({0, 1, pw::traffic::activation});
    watched value;
    if (here.rank() == 1) value.is_done = &is_done;
    for (int step = 0; step < 5; ++step) {
      std::vector<int> const given(step < 4 ? 4 : 4000, step + 1);
      if (here.rank() == 0) {
        value.values.resize(given.size());
        pw::cuda::upload<int>(given, value.values.data());
      }
      here.agree("a step begins");
      is_done = is_posted = false;
      here.agree("now");
      graph([&] {
        if (here.rank() == 0) {
          while (!is_posted) std::this_thread::yield();
          return here.wait(here.send(channel, pw::message_of(value)));
        }
        pw::cuda::queue(
            "use", where.stream(),
            +[](cudaStream_t on, std::atomic<bool>* to) {
              cuda_on_host::enqueue(on, [to] { *to = true; });
              return cudaSuccess;
            },
            &is_done);
        auto const posted = here.post(channel, pw::message_of(value));
        is_posted = true;
        here.wait(posted);
      });
      if (here.rank() == 0 || step < 2) continue;  // the first ones are swapped
      std::vector<int> found(given.size());
      REQUIRE(value.values.size() == given.size());
      pw::cuda::download<int>(value.values.data(), found);
      CHECK(found == given);
    }
    CHECK(value.was_done);
  });
}
#endif

TEST_CASE("a rank that throws in a step of all is heard by the others, and one that begins none is named") {
  std::string said;
  auto const run = [&](auto const& step_of) {
    pw::cuda::shared_steps all(2, 0.2);
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

#ifndef PIPEWRIGHT_ON_DEVICE
TEST_CASE("what CUDA refuses one rank of a device, in a step of all or before one, ends them all") {
  auto const said_after = [](auto const& fail) {
    pw::cuda::shared_steps all(2);
    std::string said;
    try {
      pw::cuda::loopback::run(2, [&](auto& here) {
        auto& where = context::here();
        step_graph graph(where, all);
        pw::cuda::buffer<int> number(1);
        for (int step = 0; step < 6; ++step) {
          here.agree("a step begins");
          if (here.rank() == 0) fail(step);
          here.agree("now");
          graph([&] {
            for (int i = 0; i < 2; ++i) {
              number.clear();
              pw::cuda::event cleared;
              cleared.record(where.stream());
              where.wait(cleared);
            }
          });
        }
      });
    } catch (std::exception const& e) {
      said = e.what();
    }
    return said;
  };
  CHECK(said_after([](int step) {
          if (step != 4) return;
          cuda_on_host::fail("cudaGraphLaunch", 0, cudaErrorIllegalAddress);
          cuda_on_host::fail("cudaMemsetAsync", 0, cudaErrorIllegalAddress);
        }).find("an illegal memory access") != std::string::npos);
  CHECK(said_after([](int step) {
          if (step == 2) cuda_on_host::fail("cudaStreamCreateWithFlags", 0, cudaErrorMemoryAllocation);
        }).find("cudaStreamCreate") != std::string::npos);
}
#endif

TEST_CASE("a list comes after what was queued before on its streams, and before what is queued there after it") {
  context where;
  auto const other = pw::cuda::detail::make_stream();
  pw::cuda::buffer<int> from(1), to(1), more(1);
  pw::cuda::notebook notes;
  pw::cuda::graph_cache graphs;
  where.wait();
  cudaMemsetAsync(from.data(), 7, sizeof(int), other.get());
  auto const copy = +[](cudaStream_t on, int* into, int const* source) {
    return cudaMemcpyAsync(into, source, sizeof(int), cudaMemcpyDefault, on);
  };
  notes.add<int*, int const*>("copy", other.get(), copy, to.data(), from.data());
  notes.add<int*, int const*>("copy", where.stream(), copy, more.data(), more.data());
  notes.issue([&](pw::cuda::work_list const& list, cudaStream_t on) { graphs.launch(list, on, true); });
  int found = 0;
  pw::cuda::download<int>(to.data(), {&found, 1});
  CHECK(found == 0x07070707);
}

TEST_CASE("where arguments change in every step, steps are queued as ever, and it is said why") {
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
}

#ifndef PIPEWRIGHT_ON_DEVICE
TEST_CASE("where CUDA captures nothing, steps are queued as ever, and it is said why") {
  context where;
  step_graph graph(where);
  pw::cuda::buffer<int> number(1);
  cuda_on_host::fail("cudaGraphInstantiate", 0, cudaErrorStreamCaptureUnsupported);
  for (int step = 0; step < 4; ++step) graph([&] { number.clear(); });
  CHECK(graph.why_not() == "CUDA cannot capture a step: cudaErrorStreamCaptureUnsupported");
  CHECK(graph.launches() == 0);
}
#endif

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
