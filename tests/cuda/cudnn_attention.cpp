// SPDX-License-Identifier: Apache-2.0
// Attention by cuDNN, and the choice between it and the library's own kernels: without a device over a stand-in of cuDNN's frontend
// (on_host/cudnn_frontend.h), on one (tests/gpu) over cuDNN, where it is there.
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <cuda/buffers.hpp>
#include <cuda/trainings.hpp>
#include <doctest/doctest.h>

#include <pipewright/cuda/loopback.hpp>
#include <pipewright/cuda/step_graph.hpp>
#include <pipewright/gpt2/host/attention.hpp>
#include <pipewright/gpt2_cuda/attentions.hpp>
#include <pipewright/gpt2_cuda/backend.hpp>
#include <pipewright/transport/in_process.hpp>

#ifndef PIPEWRIGHT_ON_DEVICE
#include <cudnn_frontend.h>
#endif

namespace {

using namespace small_training;
using namespace cuda_testing;
namespace cuda = gpt2::cuda;
using cuda::pass;
using pw::cuda::context;

std::mt19937 engine(5);

std::vector<bf16> drawn(std::size_t n) { return cuda_testing::drawn<bf16>(engine, n); }

/// A case of attention, and what the host says of it.
struct one {
  gpt2::attention_shape shape;
  std::size_t rows, width, queries;
  std::vector<bf16> qkv, d_out;
  numbers out, level;

  explicit one(gpt2::attention_shape s)
      : shape{s},
        rows{static_cast<std::size_t>(s.rows())},
        width{static_cast<std::size_t>(s.width)},
        queries{rows * static_cast<std::size_t>(s.heads)},
        qkv{drawn(3 * rows * width)},
        d_out{drawn(rows * width)},
        out(rows * width),
        level(queries) {
    numbers scratch(gpt2::host::attention_scratch(s));
    gpt2::host::attention(wide(qkv).data(), s, {}, scratch.data(), out.data(), level.data());
  }
  /// From these outputs.
  numbers backward(std::vector<bf16> const& of) const {
    numbers made(3 * rows * width), scratch(gpt2::host::attention_scratch(shape));
    gpt2::host::attention_backward(wide(qkv).data(), wide(of).data(), level.data(), wide(d_out).data(), shape, {},
                                   scratch.data(), made.data());
    return made;
  }
};

/// Whether cuDNN serves a shape; loudly where it does not.
bool serves(cuda::cudnn_attention& by, pass which, gpt2::attention_shape s) {
  if (by.serves(which, s)) return true;
#ifndef PIPEWRIGHT_ON_DEVICE
  FAIL_CHECK(by.why_not());
#endif
  MESSAGE("SKIPPED: ", s.length, " tokens, heads of ", s.head_size(), ": ", by.why_not());
  return false;
}

std::vector<gpt2::attention_shape> some_shapes() {
#ifdef PIPEWRIGHT_ON_DEVICE
  return {{2, 128, 3, 192}, {2, 1024, 12, 768}, {1, 150, 3, 192}, {3, 256, 2, 256}, {2, 100, 2, 80}, {1, 65, 2, 32}};
#else
  return {{2, 40, 2, 48}, {1, 65, 3, 48}, {2, 128, 1, 64}, {1, 7, 2, 256}, {3, 5, 2, 16}};
#endif
}

#ifndef PIPEWRIGHT_ON_DEVICE
/// While it is there, cuDNN is as it says.
struct as_if {
  explicit as_if(std::function<void()> const& set) { set(); }
  as_if(as_if const&) = delete;
  as_if& operator=(as_if const&) = delete;
  ~as_if() {
    cuda_on_host::cudnn_is_there = true;
    cuda_on_host::cudnn_version = 91900;
    cuda_on_host::cudnn_refuses.clear();
    cuda_on_host::cudnn_breaks = false;
    cuda_on_host::cudnn_workspace = 1000;
    cuda_on_host::times.clear();
  }
};
#endif

}  // namespace

#ifndef PIPEWRIGHT_ON_DEVICE
TEST_CASE("where cuDNN is not there, the own kernels compute, and it is said why") {
  cudnn_frontend::cudnn_dlhandle = nullptr;
  as_if const gone([] { cuda_on_host::cudnn_is_there = false; });
  one const c({2, 40, 2, 48});
  context here;
  auto& by = here.kept<cuda::attentions>();
  by.prefer_cudnn();
  auto out = poisoned<bf16>(c.out.size());
  auto level = poisoned<float>(c.queries);
  by.forward(on_device(c.qkv).data(), c.shape, {}, out.data(), level.data());
  CHECK(difference(on_host(out), c.out) < 1e-2);
  CHECK(by.why_not() ==
        "cuDNN cannot be loaded: libcudnn.so.9: cannot open shared object file: No such file or directory; put its "
        "folder on LD_LIBRARY_PATH");
  CHECK_THROWS_WITH(here.kept<cuda::cudnn_attention>().forward(nullptr, c.shape, nullptr, nullptr),
                    doctest::Contains("pipewright: cuDNN does not compute this attention: cuDNN cannot be loaded"));
  CHECK(cuda::cudnn_attention::lacks(pass::forward, c.shape, "{}", 90).starts_with("cuDNN cannot be loaded"));
}
#endif

TEST_CASE("cuDNN's attention and its backward, in place and apart, are the host's, and the same bits again") {
  context here;
  auto& by = here.kept<cuda::cudnn_attention>();
  for (auto const s : some_shapes()) {
    CAPTURE(s.length);
    CAPTURE(s.heads);
    CAPTURE(s.head_size());
    one const c(s);
    auto const qkv = on_device(c.qkv), d_out = on_device(c.d_out);
    if (!serves(by, pass::forward, s)) continue;
    auto const forward = [&] {
      auto out = poisoned<bf16>(c.out.size());
      auto level = poisoned<float>(c.queries);
      by.forward(qkv.data(), s, out.data(), level.data());
      return std::pair(on_host(out), on_host(level));
    };
    auto const [out, level] = forward();
    CHECK(difference(out, c.out) < 1e-2);
    CHECK(difference(level, c.level) < 1e-4);  // its exponentials are approximate
    CHECK(same_bits(forward().first, out));
    CHECK(same_bits(forward().second, level));

    if (!serves(by, pass::backward, s)) continue;
    auto const given_out = on_device(out);
    auto const given_level = on_device(level);
    auto const expected = c.backward(out);
    auto const backward = [&](bool in_place) {
      auto from = qkv, to = poisoned<bf16>(c.qkv.size());
      bf16* const at = in_place ? from.data() : to.data();
      by.backward(from.data(), given_out.data(), given_level.data(), d_out.data(), s, at);
      return on_host(in_place ? from : to);
    };
    auto const apart = backward(false);
    CHECK(same_bits(backward(true), apart));
    CHECK(same_bits(backward(false), apart));
    for (std::size_t which = 0; which < 3; ++which) {
      CAPTURE(which);
      numbers found, wanted;
      for (std::size_t i = 0; i < apart.size(); ++i)
        if (i / c.width % 3 == which) found.push_back(__bfloat162float(apart[i])), wanted.push_back(expected[i]);
      CHECK(difference(found, wanted) < 1e-2);
    }
  }
}

#ifndef PIPEWRIGHT_ON_DEVICE
TEST_CASE("what cuDNN does not serve, the own kernels compute, and it is said why") {
  std::map<std::string, std::function<void()>> const ways{
      {"pipewright: cuDNN's attention failed to be planned: No valid engine configs",
       [] { cuda_on_host::cudnn_refuses = "No valid\nengine configs"; }},
      {"the backward of cuDNN before 9.16 is for lengths that are multiples of 128, not 40",
       [] { cuda_on_host::cudnn_version = 91300; }},
      {"cuDNN's attention wants 257 MiB of room, more than 256",
       [] { cuda_on_host::cudnn_workspace = std::int64_t{257} << 20; }},
  };
  for (auto const& [why, set] : ways) {
    as_if const so(set);
    one const c({2, 40, 2, 48});
    context here;
    auto& by = here.kept<cuda::attentions>();
    by.prefer_cudnn();
    auto const out = on_device(drawn(c.out.size())), d_out = on_device(c.d_out);
    auto const level = on_device(c.level);
    auto qkv = on_device(c.qkv);
    buffer<bf16> scratch(cuda::attention_scratch(c.shape));
    auto const runs = cuda_on_host::cudnn_runs;
    for (int again = 0; again < 2; ++again) {
      qkv.copy_from(on_device(c.qkv).data());
      by.backward(qkv.data(), out.data(), level.data(), d_out.data(), c.shape, {}, scratch.data(), qkv.data());
    }
    CHECK(difference(on_host(qkv), c.backward(on_host(out))) < 1e-2);
    CHECK(cuda_on_host::cudnn_runs == runs);
    CHECK_FALSE(by.is_by_cudnn(pass::backward, c.shape));
    CHECK(by.why_not().substr(0, why.size()) == why);
  }
  context here;
  auto& by = here.kept<cuda::cudnn_attention>();
  CHECK_FALSE(by.serves(pass::forward, {1, 8, 2, 24}));
  CHECK(by.why_not() == "cuDNN's attention has heads of multiples of 8 up to 128 numbers, not 12");
  CHECK_FALSE(by.serves(pass::forward, {1, 8, 1, 136}));
  CHECK_FALSE(by.serves(pass::backward, {1, 1, 1, 64}));
  CHECK(by.serves(pass::forward, {1, 1, 1, 64}));
}

TEST_CASE("memory that there is not, and a cuDNN that fails while it runs, leave the own kernels") {
  one const c({2, 40, 2, 48});
  {
    context here;
    auto& by = here.kept<cuda::attentions>();
    by.prefer_cudnn();
    auto out = poisoned<bf16>(c.out.size());
    auto level = poisoned<float>(c.queries);
    auto const qkv = on_device(c.qkv);
    cuda_on_host::fail("cudaMallocAsync", 0, cudaErrorMemoryAllocation);
    by.forward(qkv.data(), c.shape, {}, out.data(), level.data());
    CHECK(difference(on_host(out), c.out) < 1e-2);
    CHECK(by.why_not().find("found no room for") != std::string::npos);
  }
  as_if const breaks([] { cuda_on_host::cudnn_breaks = true; });
  context here;
  auto& by = here.kept<cuda::attentions>();
  by.choose(pw::cuda::choice::by_timing);
  auto out = poisoned<bf16>(c.out.size());
  auto level = poisoned<float>(c.queries);
  by.forward(on_device(c.qkv).data(), c.shape, {}, out.data(), level.data());
  CHECK(difference(on_host(out), c.out) < 1e-2);
  CHECK(by.why_not() == "pipewright: cuDNN's attention failed to run: CUDNN_STATUS_EXECUTION_FAILED");
}

TEST_CASE("by rule the own kernels compute; by timing the faster, forward and backward apart, and a tie is the own's") {
  one const c({2, 40, 2, 48});
  auto const qkv = on_device<bf16>;
  struct timed {
    float cudnn, own;
    bool is_cudnn;
  };
  for (auto const& [cudnn, own, is_cudnn] : {timed{1, 2, true}, {2, 1, false}, {1, 1, false}})
    for (auto const which : {pass::forward, pass::backward}) {
      // Each way is timed, in order; then again, the faster first.
      as_if const so([&, theirs = cudnn, ours = own] {
        cuda_on_host::times = {ours, theirs, std::min(ours, theirs), std::max(ours, theirs)};
      });
      context here;
      auto& by = here.kept<cuda::attentions>();
      by.choose(pw::cuda::choice::by_timing);
      auto given = qkv(c.qkv), out = on_device(drawn(c.out.size()));
      auto const d_out = on_device(c.d_out);
      auto level = on_device(c.level);
      buffer<bf16> scratch(cuda::attention_scratch(c.shape));
      auto const of_out = on_host(out);
      auto const run = [&] {
        if (which == pass::forward) return by.forward(given.data(), c.shape, {}, out.data(), level.data());
        given.copy_from(qkv(c.qkv).data());
        by.backward(given.data(), out.data(), level.data(), d_out.data(), c.shape, {}, scratch.data(), given.data());
      };
      run();
      if (which == pass::forward) CHECK(difference(on_host(out), c.out) < 1e-2);
      else CHECK(difference(on_host(given), c.backward(of_out)) < 1e-2);
      CHECK(by.is_by_cudnn(which, c.shape) == is_cudnn);
      CHECK(by.why_not().empty());
      auto const runs = cuda_on_host::cudnn_runs;
      run();
      here.wait();
      CHECK(cuda_on_host::cudnn_runs == runs + (is_cudnn ? 1 : 0));
    }

  auto const runs = cuda_on_host::cudnn_runs;
  context here;
  auto& by = here.kept<cuda::attentions>();
  auto out = poisoned<bf16>(c.out.size());
  auto level = poisoned<float>(c.queries);
  auto const given = qkv(c.qkv);
  auto const run = [&](cuda::device_dropout const& mask, bf16* to) {
    by.forward(given.data(), c.shape, mask, to, level.data());
  };
  run({}, out.data());
  by.choose(pw::cuda::choice::by_rule);
  run({}, out.data());
  by.prefer_cudnn();  // for shapes not met before
  run({}, out.data());
  CHECK(difference(on_host(out), c.out) < 1e-2);
  context other;
  auto& there = other.kept<cuda::attentions>();
  there.prefer_cudnn();
  buffer<std::int64_t> const step(1);
  cuda::device_dropout const mask({.random = {}, .site = {}, .probability = 0.5f}, step.data());
  there.forward(given.data(), c.shape, mask, out.data(), level.data());
  buffer<bf16> amiss(c.out.size() + 1);
  there.forward(given.data(), c.shape, {}, amiss.data() + 1, level.data());
  other.wait();
  CHECK(cuda_on_host::cudnn_runs == runs);
}

TEST_CASE("what cuDNN made ends with its context") {
  auto const before = cuda_on_host::cudnn_handles;
  {
    context here;
    CHECK(here.kept<cuda::cudnn_attention>().serves(pass::forward, {1, 8, 1, 64}));
    CHECK(cuda_on_host::cudnn_handles == before + 1);
  }
  CHECK(cuda_on_host::cudnn_handles == before);
}
#endif

namespace {

gpt2::configuration with_heads_of_16() {
  gpt2::configuration c{.vocabulary = 13, .positions = 5, .width = 32, .heads = 2, .layers = 6};
  return c;
}
outcome by_host(setting const& s, pw::plan_view plan, auto const& optimizer) {
  return by_pipeline(s, plan, cut(gpt2::model(with_heads_of_16()), plan.stages()), optimizer,
                     [](auto const& ranks, auto f) { pw::in_process::run(ranks, f); });
}
outcome by_cudnn(setting const& s, pw::plan_view plan, auto const& optimizer, std::string& why_not,
                 auto const& by_steps) {
  return by_pipeline(
      s, plan, cut(cuda::model<bf16>(with_heads_of_16()), plan.stages()), optimizer,
      [&](auto const& ranks, auto f) {
        pw::cuda::loopback::run(ranks, [&](auto& here) {
          auto& by = context::here().template kept<cuda::attentions>();
          by.prefer_cudnn();
          f(here);
          if (here.rank() == 0) why_not = by.why_not();
        });
      },
      by_steps);
}
outcome by_cudnn(setting const& s, pw::plan_view plan, auto const& optimizer, std::string& why_not) {
  return by_cudnn(s, plan, optimizer, why_not, as_it_is);
}

}  // namespace

TEST_CASE("a training with cuDNN's attention is the host's, alone and as a pipeline") {
  setting const s;
  auto const by_momentum = pw::sgd{.rate = 0.1, .momentum = 0.9, .weight_decay = 0.01};
  std::string why_not;
  auto const alone =
      pw::make_plan("sequential", {.ranks = 1, .micro_batches = 4}, s.needs(1, pw::recompute_mode::never));
  auto const expected = by_host(s, alone, by_momentum), found = by_cudnn(s, alone, by_momentum, why_not);
  if (!why_not.empty()) MESSAGE("SKIPPED: ", why_not);
#ifndef PIPEWRIGHT_ON_DEVICE
  CHECK(why_not == "");
#endif
  REQUIRE(found.losses.size() == expected.losses.size());
  for (std::size_t i = 0; i < found.losses.size(); ++i)
    CHECK(found.losses[i] == doctest::Approx(expected.losses[i]).epsilon(3e-3));
  CHECK(found.held_out == doctest::Approx(expected.held_out).epsilon(3e-3));
  auto const split = pw::make_plan("flush", {.ranks = 2, .micro_batches = 4}, s.needs(2, pw::recompute_mode::never));
  check_equal(by_cudnn(s, split, by_momentum, why_not), found);
}

TEST_CASE("steps with cuDNN's attention run as graphs") {
  setting const s{.steps = 6};
  auto const plan =
      pw::make_plan("sequential", {.ranks = 1, .micro_batches = 2}, s.needs(1, pw::recompute_mode::never));
  auto const by_adam = pw::adamw(1e-2, 0.1);
  std::string why_not;
  pw::cuda::shared_steps all;
#ifndef PIPEWRIGHT_ON_DEVICE
  auto const runs = cuda_on_host::cudnn_runs;
#endif
  check_equal(by_cudnn(s, plan, by_adam, why_not,
                       [&](auto&) {
                         return [graph = std::make_unique<pw::cuda::step_graph>(context::here(), all)](
                                    auto const& step) { (*graph)(step); };
                       }),
              by_cudnn(s, plan, by_adam, why_not));
  CHECK(all.graphs().why_not() == "");
  CHECK(all.graphs().launches() == 4);
  CHECK(all.graphs().graphs() == 1);
#ifndef PIPEWRIGHT_ON_DEVICE
  CHECK(cuda_on_host::cudnn_runs > runs);
#endif
}
