// SPDX-License-Identifier: Apache-2.0
// Every schedule on up to eight ranks, over a rendezvous as strict as NCCL may be: what the transport queues, in the
// order in which it does, comes to an end, and to the serial oracle's numbers. Stages work on streams, late, as devices
// do.
#include <array>
#include <cstddef>
#include <deque>
#include <span>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <nccl/ranks.hpp>
#include <support/scalar_model.hpp>
#include <support/train.hpp>

#include <pipewright/schedule/named.hpp>

namespace {

namespace pw = pipewright;
using pw::cuda::context;

/// One number on the device; how many there are, on the host.
struct one {
  std::int32_t count = 0;
  pw::cuda::buffer<double> value;
  void for_each_part(auto&& visit) {
    visit(count);
    visit(value);
  }
  double* room() {
    count = 1;
    value.resize(1);
    return value.data();
  }
};

/// Queues a kernel.
void launch(auto kernel) { cuda_on_host::enqueue(context::here().stream(), kernel); }

struct scaling {
  using input = one;
  using output = one;
  using weights = toys::scalar;
  using gradients = toys::scalar;
  using saved = one;
  double initial = 1;

  void initialize(pw::stage_context const&, weights& w) const { w.value = initial; }
  void forward(auto&, weights const& w, one const& x, one& y, one& s) const {
    launch([&w, x = x.value.data(), y = y.room(), s = s.room()] {
      *s = *x;
      *y = w.value * *x;
    });
  }
  void backward(auto&, weights const& w, one& s, one const& dy, one& dx, gradients& g) const {
    launch([&w, &g, s = s.value.data(), dy = dy.value.data(), dx = dx.room()] {
      *dx = w.value * *dy;
      g.value += *dy * *s;
    });
  }
};

struct late_loss final : pw::late_number {
  double value = 0;
  double get() override {
    context::here().wait();
    return value;
  }
};
struct late_losses : std::deque<late_loss> {
  explicit late_losses(context&) : deque(64) {}
};

struct half_square {
  using input = one;
  using target = pw::nothing;
  using weights = toys::scalar;
  using gradients = toys::scalar;
  using saved = one;
  double initial = 1;

  void initialize(pw::stage_context const&, weights& w) const { w.value = initial; }
  pw::loss forward(auto& c, weights const& w, one const& x, target const&, one& s) const {
    auto& loss = context::here().kept<late_losses>()[static_cast<std::size_t>(c.micro_batch)];
    launch([&w, &loss, x = x.value.data(), s = s.room()] {
      *s = *x;
      double const y = w.value * *x;
      loss.value = y * y / 2;
    });
    return {.value = 1, .times = &loss};
  }
  void backward(auto&, weights const& w, one& s, one& dx, gradients& g) const {
    launch([&w, &g, s = s.value.data(), dx = dx.room()] {
      double const y = w.value * *s;
      *dx = w.value * y;
      g.value += y * *s;
    });
  }
};

struct model {
  std::vector<double> initial;
  using input = one;
  using last = half_square;
  int size() const { return static_cast<int>(initial.size()); }
  void visit(int index, auto&& f) const {
    double const w = initial[static_cast<std::size_t>(index)];
    if (index + 1 == size()) f(half_square{w});
    else f(scaling{w});
  }
};

struct batch : toys::scalar_batch {
  void input(int micro_batch, one& x) const {
    double value = 0;
    toys::scalar_batch::input(micro_batch, value);
    launch([value, x = x.room()] { *x = value; });
  }
};
auto const numbers = [](int number) { return toys::scalar_batch{{1, 0.5, 0.25, 2, 1, 0.5, 1}, number}; };
auto const batches = [](int number) { return batch{numbers(number)}; };

/// Reads gradients on the host.
struct patient_sgd : pw::sgd {
  void update(auto&&... all) const {
    context::here().wait();
    sgd::update(all...);
  }
};

template<class Policy> void check(pw::nccl::options const& how, int ranks, int micro_batches) {
  int const chunks = Policy::name == "interleaved" ? 2 : 1;
  CAPTURE(Policy::name);
  CAPTURE(ranks);
  CAPTURE(micro_batches);
  std::vector<double> initial(static_cast<std::size_t>(ranks * chunks), 1);
  initial.front() = 0.5;
  pw::shape const shape{.ranks = ranks, .micro_batches = micro_batches, .chunks = chunks};
  support::run_of const calls{.calls = "sseds"};
  auto const expected = support::train_serially(Policy::weights, shape, toys::scalar_model{initial}, numbers,
                                                pw::sgd{.rate = 0.125}, calls);
  auto const plan = pw::make_plan<Policy>(shape);
  std::vector<support::outcome> found(static_cast<std::size_t>(ranks));
  std::vector<double> weights(initial.size());
  auto const train = [&] {
    nccl_ranks::run(
        ranks,
        [&](auto& here) {
          auto training = pw::pipeline(plan.view(), model{initial}, here, patient_sgd{{.rate = 0.125}});
          support::detail::follow(calls.calls, training, batches, found[static_cast<std::size_t>(here.rank())]);
          context::here()
              .wait();  // weights and gradients are the host's memory, which is freed without asking the device
          training.template for_each_parameter<double>([&](int stage, std::string_view, auto values, auto const&) {
            weights[static_cast<std::size_t>(stage)] = values[0];
          });
        },
        how);
  };
  if (how.one_communicator && chunks > 1 && ranks > 1) {
    CHECK_THROWS_WITH_AS(train(), doctest::Contains("activations go round in a ring of ranks"), pw::error);
    return;
  }
  train();
  auto const& told = found[static_cast<std::size_t>(plan.view().rank_of_stage[plan.view().stages() - 1])];
  CHECK(told.losses == expected.losses);
  CHECK(told.evaluations == expected.evaluations);
  for (std::size_t s = 0; s < weights.size(); ++s) CHECK(weights[s] == expected.weights[s].second[0]);
}

template<class... Policies> void check_all(pw::nccl::options const& how) {
  for (int ranks = 1; ranks <= 8; ++ranks)
    for (int const times : {1, 2, 3}) (..., check<Policies>(how, ranks, times * ranks));
}
template<class... Policies> void check_ways() {
  for (auto const& how : nccl_ranks::ways) {
    CAPTURE(how.shapes == pw::nccl::fixed);
    CAPTURE(how.one_communicator);
    check_all<Policies...>(how);
  }
}

}  // namespace

TEST_CASE("synchronous schedules") { check_ways<pw::sequential, pw::gpipe, pw::flush, pw::interleaved<>>(); }
TEST_CASE("asynchronous schedules") {
  check_ways<pw::one_f_one_b, pw::one_f_one_b_vertical_sync, pw::two_buffered>();
  CHECK(nccl_on_host::alive() == 0);
}
