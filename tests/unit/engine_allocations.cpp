// SPDX-License-Identifier: Apache-2.0
// After its first steps a run allocates nothing: not the engine, not the transport.
// thread sanitizer: --full
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <support/scalar_model.hpp>

#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;

namespace {
std::atomic<bool> counting = false;
std::atomic<long> allocations = 0;

void* counted(std::size_t bytes) {
  if (counting) ++allocations;
  if (void* const memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

// Boundaries with memory of their own: vectors of one size.
using numbers = std::vector<double>;
struct widening {
  using input = numbers;
  using output = numbers;
  using weights = toys::scalar;
  using gradients = toys::scalar;
  using saved = numbers;

  void forward(auto&, weights const& w, input const& x, output& y, saved& s) const {
    s = x;
    y = x;
    for (double& each : y) each *= w.value;
  }
  void backward(auto&, weights const& w, saved& s, output const& dy, input& dx, gradients& g) const {
    dx = dy;
    for (std::size_t i = 0; i < s.size(); ++i) {
      dx[i] *= w.value;
      g.value += dy[i] * s[i];
    }
  }
};
struct total {
  using input = numbers;
  using target = numbers;
  using weights = toys::scalar;
  using gradients = toys::scalar;
  using saved = numbers;

  pw::loss forward(auto&, weights const& w, input const& x, target const& t, saved& s) const {
    s = x;
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) sum += w.value * x[i] * t[i];
    return {.value = sum, .weight = static_cast<double>(x.size())};
  }
  void backward(auto&, weights const& w, saved& s, input& dx, gradients& g) const {
    dx.assign(s.size(), w.value);
    for (double const x : s) g.value += x;
  }
};
struct model {
  int stages;
  using input = numbers;
  using last = total;
  int size() const { return stages; }
  void visit(int index, auto&& f) const {
    if (index + 1 == stages) f(total{});
    else f(widening{});
  }
};
struct batch {
  void input(int m, numbers& x) const { x.assign(100, 1 + 0.5 * m); }
  void target(int, numbers& t) const { t.assign(100, 1); }
};

long allocated(std::string_view schedule, int ranks, pw::needs wants, pw::pipeline_options const& options,
               auto const& set, pw::in_process::options link) {
  auto const plan =
      pw::make_plan(schedule, {.ranks = ranks, .micro_batches = 4, .chunks = schedule == "interleaved" ? 2 : 1}, wants);
  std::barrier here_all(ranks);
  allocations = 0;
  pw::in_process::run(
      plan,
      [&](pw::in_process::endpoint& here) {
        auto training = pw::pipeline(plan, set, here, pw::adam{.rate = 1e-3}, options);
        batch const data{};
        for (int step = 0; step < 40; ++step) training.step(data);
        here_all.arrive_and_wait();
        counting = true;
        here_all.arrive_and_wait();
        for (int step = 0; step < 20; ++step) training.step(data);
        here_all.arrive_and_wait();
        counting = false;
        here_all.arrive_and_wait();
        training.drain();
      },
      link);
  return allocations;
}

}  // namespace

TEST_CASE("the counter counts") {
  allocations = 0;
  counting = true;
  void* const volatile made = ::operator new(1);  // a new-expression may be optimised away
  counting = false;
  ::operator delete(made);
  CHECK(allocations == 1);
}

TEST_CASE("a steady step allocates nothing, under every schedule and mode") {
  for (std::string_view schedule : {"sequential", "gpipe", "flush", "interleaved", "1f1b", "1f1b-vsync", "2bw"})
    for (int ranks = 1; ranks <= 4; ++ranks)
      for (auto mode : {pw::in_process::strict, pw::in_process::buffered}) {
        CAPTURE(schedule);
        CAPTURE(ranks);
        int const stages = ranks * (schedule == "interleaved" ? 2 : 1);
        CHECK(allocated(schedule, ranks, {}, {}, model{stages}, {.mode = mode}) == 0);
        if (schedule == "1f1b") continue;
        pw::pipeline_options const all{
            .scale = pw::loss_scale::per_token, .clip = 1, .non_finite = pw::on_non_finite::stop, .tied = {"w", "w"}};
        CHECK(allocated(schedule, ranks, {.step_facts = true, .tied_first = 0, .tied_second = stages - 1}, all,
                        model{stages}, {.mode = mode}) == 0);
      }
}

TEST_CASE("nor does one that recomputes, or one over a slow link") {
  for (std::string_view schedule : {"gpipe", "flush", "1f1b", "2bw"}) {
    CAPTURE(schedule);
    CHECK(allocated(schedule, 3, {.recompute = pw::recompute_mode::always}, {}, pw::recompute_each(model{3}), {}) == 0);
    CHECK(allocated(schedule, 3, {}, {}, model{3}, {.latency = 20e-6, .bandwidth = 1e9}) == 0);
  }
}
