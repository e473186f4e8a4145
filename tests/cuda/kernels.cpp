// SPDX-License-Identifier: Apache-2.0
// GPT-2's kernels against the host backend, number by number: in fp32 and bf16, at odd sizes, on results that are poisoned
// before, and whatever the order in which a block's threads run. Without a device (on_host/), and on one (tests/gpu).
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/gpt2/host/backend.hpp>
#include <pipewright/gpt2_cuda/attention.cuh>
#include <pipewright/gpt2_cuda/classifier.cuh>
#include <pipewright/gpt2_cuda/elementwise.cuh>
#include <pipewright/gpt2_cuda/embedding.cuh>
#include <pipewright/gpt2_cuda/layer_norm.cuh>
#include <pipewright/gpt2_cuda/optimizer.cuh>
#include <pipewright/gpt2_cuda/sums.cuh>
#include <pipewright/gpt2_cuda/tokens.hpp>

#include "kernel_testing.hpp"

namespace {

using namespace kernel_testing;
namespace gpt2 = pipewright::gpt2;
namespace host = pipewright::gpt2::host;

std::mt19937 engine(5);

/// Numbers as the device has them, and the same numbers as the host reads them.
template<class T> struct both {
  std::vector<T> given;
  device_vector<T> device;
  numbers host;

  explicit both(std::size_t n, float spread = 1.f, float about = 0.f)
      : given{drawn<T>(engine, n, spread, about)}, device{given}, host{wide(given)} {}
};

constexpr gpt2::row_shape shapes[]{{1, 1}, {3, 7}, {5, 32}, {17, 40}, {9, 129}, {33, 256}, {4, 1600}};

/// The sum over a block of all threads' numbers, then of their squares.
__global__ void two_sums(float* first, float* second) {
  float const mine = static_cast<float>(threadIdx.x);
  first[threadIdx.x] = cuda::block_sum(mine);
  second[threadIdx.x] = cuda::block_sum(mine * mine);
}

#define FOR_BOTH_TYPES(name) TEST_CASE_TEMPLATE(name, T, float, cuda::bf16)

}  // namespace

TEST_CASE("sums over a block, one after another") {
  auto const [first, second] = in_every_order([] {
    auto a = poisoned<float>(256), b = poisoned<float>(256);
    cuda::launch{nullptr, 1, 256}("two_sums", two_sums, a.data(), b.data());
    return std::tuple(a, b);
  });
  CHECK(std::ranges::count(first, 32640.f) == 256);
  CHECK(std::ranges::count(second, 5559680.f) == 256);
}

FOR_BOTH_TYPES("elementwise operations") {
  for (std::size_t const n : {1u, 7u, 8u, 255u, 2048u, 5003u})
    for (float const p : {0.f, 0.3f}) {
      CAPTURE(n);
      CAPTURE(p);
      auto const mask = mask_of(p);
      both<T> const a(n), b(n);
      numbers sum(n), dropped(n);
      host::add_dropout(a.host.data(), b.host.data(), n, mask, sum.data());
      host::dropout_backward(a.host.data(), n, mask, dropped.data());
      auto const [to, from] = in_every_order([&] {
        auto x = poisoned<T>(n), y = poisoned<T>(n);
        cuda::add_dropout(nullptr, a.device.data(), b.device.data(), n, mask, x.data());
        cuda::dropout_backward(nullptr, a.device.data(), n, mask, y.data());
        return std::tuple(x, y);
      });
      CHECK(difference(to, sum) < near<T>);
      CHECK(difference(from, dropped) < near<T>);
      auto in_place = b.device;
      cuda::add_dropout(nullptr, a.device.data(), in_place.data(), n, mask, in_place.data());
      CHECK(difference(in_place, sum) < near<T>);
    }
}

TEST_CASE("accumulate adds") {
  both<float> const a(1003);
  auto sum = a.device;
  cuda::accumulate(nullptr, a.device.data(), sum.size(), sum.data());
  auto const to = sum.on_host();
  for (std::size_t i = 0; i < to.size(); ++i) CHECK(to[i] == 2 * a.host[i]);
}

FOR_BOTH_TYPES("gelu and its slope") {
  both<T> const x(4001, 3.f), g(4001);
  numbers value, slope;
  for (std::size_t i = 0; i < x.host.size(); ++i) {
    value.push_back(host::gelu::value(x.host[i]));
    slope.push_back(g.host[i] * host::gelu::slope(x.host[i]));
  }
  auto y = poisoned<T>(value.size()), dx = x.device;
  cuda::gelu(nullptr, x.device.data(), y.size(), y.data());
  cuda::gelu_backward(nullptr, g.device.data(), x.device.data(), dx.size(), dx.data());
  CHECK(difference(y, value) < near<T>);
  CHECK(difference(dx, slope) < near<T>);
}

FOR_BOTH_TYPES("layer norm, alone and after a sum") {
  for (auto const s : shapes)
    for (float const p : {0.f, 0.2f}) {
      CAPTURE(s.rows);
      CAPTURE(s.width);
      auto const mask = mask_of(p);
      auto const rows = static_cast<std::size_t>(s.rows), width = static_cast<std::size_t>(s.width);
      both<T> const x(s.size(), 2.f, 1.f), branch(s.size()), w(width, 0.2f, 1.f), b(width, 0.3f);
      numbers total(s.size()), y(s.size()), mean(rows), reciprocal(rows);
      host::add_dropout(x.host.data(), branch.host.data(), s.size(), mask, total.data());
      for (auto& v : total) v = cuda::wide(rounded<T>(v));
      host::layer_norm(total.data(), w.host.data(), b.host.data(), s, y.data(), mean.data(), reciprocal.data());
      auto const [got_total, got, got_mean, got_reciprocal] = in_every_order([&] {
        auto t = poisoned<T>(s.size()), to = poisoned<T>(s.size());
        auto m = poisoned<float>(rows), r = poisoned<float>(rows);
        cuda::add_layer_norm(nullptr, x.device.data(), branch.device.data(), mask, w.device.data(), b.device.data(), s,
                             t.data(), to.data(), m.data(), r.data());
        return std::tuple(t, to, m, r);
      });
      CHECK(difference(got_total, total) < near<T>);
      CHECK(difference(got_mean, mean) < 1e-4);
      if (s.width > 1) {  // a row of one number has no deviation
        CHECK(difference(got, y) < near<T>);
        CHECK(difference(got_reciprocal, reciprocal) < 1e-4);
      }
      device_vector<T> const given(got_total);
      auto alone = poisoned<T>(s.size());
      auto m = poisoned<float>(rows), r = poisoned<float>(rows);
      cuda::layer_norm(nullptr, given.data(), w.device.data(), b.device.data(), s, alone.data(), m.data(), r.data());
      CHECK(same_bits(alone.on_host(), got));
    }
}

FOR_BOTH_TYPES("layer norm's backward") {
  for (auto const s : shapes)
    for (bool const has_residual : {false, true}) {
      if (s.width == 1) continue;
      CAPTURE(s.rows);
      CAPTURE(s.width);
      auto const rows = static_cast<std::size_t>(s.rows), width = static_cast<std::size_t>(s.width);
      both<T> const x(s.size(), 2.f, 1.f), w(width, 0.2f, 1.f), dy(s.size()), residual(s.size());
      numbers y(s.size()), mean(rows), reciprocal(rows), none(width), dx(s.size()), dw(width), db(width);
      host::layer_norm(x.host.data(), w.host.data(), none.data(), s, y.data(), mean.data(), reciprocal.data());
      host::layer_norm_backward(x.host.data(), mean.data(), reciprocal.data(), w.host.data(), dy.host.data(),
                                has_residual ? residual.host.data() : nullptr, s, dx.data(), dw.data(), db.data());
      device_vector<float> const m(mean), r(reciprocal);
      cuda::norm_backward_grid const grid(s);
      auto const [got, got_dw, got_db] = in_every_order([&] {
        auto to = dy.device;  // in place
        auto gw = poisoned<float>(width), gb = poisoned<float>(width), scratch = poisoned<float>(grid.scratch(s));
        cuda::layer_norm_backward(nullptr, x.device.data(), m.data(), r.data(), w.device.data(), to.data(),
                                  has_residual ? residual.device.data() : nullptr, s, scratch.data(), to.data(),
                                  gw.data(), gb.data());
        return std::tuple(to, gw, gb);
      });
      CHECK(difference(got, dx) < near<T>);
      CHECK(difference(got_dw, dw) < 1e-5);
      CHECK(difference(got_db, db) < 1e-5);
    }
}

FOR_BOTH_TYPES("embedding") {
  for (int const width : {1, 6, 40, 300})
    for (float const p : {0.f, 0.2f}) {
      gpt2::batch_shape const batch{5, 11};
      auto const rows = static_cast<std::size_t>(batch.tokens()), columns = static_cast<std::size_t>(width);
      int const vocabulary = 13;
      both<T> const table(vocabulary * columns), positions(11 * columns), gradient(rows * columns);
      integers tokens;
      for (std::size_t i = 0; i < rows; ++i) tokens.push_back(static_cast<std::int32_t>(engine() % vocabulary));
      auto const mask = mask_of(p);
      numbers out(rows * columns), dt(table.host.size()), dp(positions.host.size());
      both<float> const before_t(dt.size()), before_p(dp.size());
      dt = before_t.host, dp = before_p.host;
      host::embed(tokens, table.host.data(), positions.host.data(), batch, width, mask, out.data());
      host::embed_backward_weights(tokens, gradient.host.data(), batch, width, mask, dt.data(), dp.data());
      cuda::rows_by_token const sorted(tokens);
      device_vector<std::int32_t> const ids(tokens), of_rows(sorted.rows), begins(sorted.begins), each(sorted.tokens),
          distinct(integers{static_cast<std::int32_t>(sorted.tokens.size())});
      auto const [got, got_t, got_p] = in_every_order([&] {
        auto to = poisoned<T>(out.size());
        auto gt = before_t.device, gp = before_p.device;
        cuda::embed(nullptr, ids.data(), table.device.data(), positions.device.data(), batch, width, mask, to.data());
        cuda::embed_backward_weights(nullptr, of_rows.data(), begins.data(), each.data(), distinct.data(),
                                     gradient.device.data(), batch, width, mask, gt.data(), gp.data());
        return std::tuple(to, gt, gp);
      });
      CHECK(difference(got, out) < near<T>);
      CHECK(difference(got_t, dt) < 1e-5);
      CHECK(difference(got_p, dp) < 1e-5);
    }
}

FOR_BOTH_TYPES("the classifier") {
  for (gpt2::row_shape const s : {gpt2::row_shape{1, 1}, {5, 3}, {4, 50}, {3, 257}, {2, 5000}, {2, 8192}}) {
    CAPTURE(s.width);
    auto const rows = static_cast<std::size_t>(s.rows);
    int const stride = s.rows % 2 == 0 ? s.width : (s.width + 7) / 8 * 8;
    both<T> const x(s.size(), 4.f);
    integers targets;
    for (std::size_t i = 0; i < rows; ++i)
      targets.push_back(i == 1 ? -100 : static_cast<std::int32_t>(engine() % static_cast<unsigned>(s.width)));
    numbers expected = x.host, losses(rows);
    host::classify(expected.data(), targets, s, 0.25f, losses.data());
    device_vector<std::int32_t> const there(targets);
    std::vector<T> apart(rows * static_cast<std::size_t>(stride), rounded<T>(std::numeric_limits<float>::quiet_NaN()));
    for (std::ptrdiff_t i = 0; i < s.rows; ++i)
      std::copy_n(x.given.begin() + i * s.width, s.width, apart.begin() + i * stride);
    auto const [got_apart, got_losses] = in_every_order([&] {
      device_vector<T> to(apart);
      auto l = poisoned<float>(rows);
      cuda::classify(nullptr, to.data(), there.data(), s, stride, 0.25f, l.data());
      return std::tuple(to, l);
    });
    std::vector<T> got, between;
    for (std::ptrdiff_t i = 0; i < s.rows; ++i) {
      auto const row = got_apart.begin() + i * stride;
      got.insert(got.end(), row, row + s.width);
      between.insert(between.end(), row + s.width, row + stride);
    }
    CHECK(std::ranges::all_of(between, [](T v) { return cuda::wide(v) == 0.f; }));
    if (s.width > 1) {
      CHECK(difference(got, expected) < near<T>);
      CHECK(difference(got_losses, losses) < 1e-5);
    }
  }
}

FOR_BOTH_TYPES("attention and its backward") {
  for (gpt2::attention_shape const s :
       {gpt2::attention_shape{1, 1, 1, 1}, {2, 5, 3, 24}, {1, 33, 2, 34}, {2, 70, 1, 64}, {1, 97, 1, 100}})
    for (float const p : {0.f, 0.25f}) {
      CAPTURE(s.length);
      CAPTURE(p);
      auto const mask = mask_of(p);
      auto const rows = static_cast<std::size_t>(s.rows()), width = static_cast<std::size_t>(s.width);
      auto const queries = rows * static_cast<std::size_t>(s.heads);
      both<T> const qkv(3 * rows * width), gradient(rows * width);
      numbers out(rows * width), level(queries), d_qkv(3 * rows * width), scratch(host::attention_scratch(s));
      host::attention(qkv.host.data(), s, mask, scratch.data(), out.data(), level.data());
      auto const [got, got_level] = in_every_order([&] {
        auto to = poisoned<T>(out.size());
        auto l = poisoned<float>(queries);
        cuda::attention(nullptr, qkv.device.data(), s, mask, to.data(), l.data());
        return std::tuple(to, l);
      });
      CHECK(difference(got, out) < near<T>);
      CHECK(difference(got_level, level) < 1e-5);
      device_vector<T> const given(got);
      device_vector<float> const given_level(got_level);
      host::attention_backward(qkv.host.data(), wide(got).data(), level.data(), gradient.host.data(), s, mask,
                               scratch.data(), d_qkv.data());
      auto const [got_d] = in_every_order([&] {
        auto to = qkv.device;  // in place
        auto room = poisoned<T>(cuda::attention_scratch(s));
        cuda::attention_backward(nullptr, to.data(), given.data(), given_level.data(), gradient.device.data(), s, mask,
                                 room.data(), to.data());
        return std::tuple(to);
      });
      auto apart = poisoned<T>(d_qkv.size()), room = poisoned<T>(cuda::attention_scratch(s));
      cuda::attention_backward(nullptr, qkv.device.data(), given.data(), given_level.data(), gradient.device.data(), s,
                               mask, room.data(), apart.data());
      CHECK(same_bits(apart.on_host(), got_d));
      if (s.length > 1) CHECK(difference(got_d, d_qkv) < near<T>);
    }
}

FOR_BOTH_TYPES("Adam and AdamW") {
  std::size_t const n = 1001;
  for (auto const& with : {pipewright::adam{.rate = 1e-2, .weight_decay = 0.1}, pipewright::adamw(1e-2, 0.1)})
    for (bool const decays : {true, false}) {
      both<float> const start(n);
      numbers weights = start.host, m(n), v(n);
      device_vector<float> got(start.host), got_m(m), got_v(v);
      for (std::int64_t step = 1; step <= 4; ++step) {
        both<T> const gradient(n);
        pipewright::optimizer_step const at{.number = step, .gradient_scale = 0.5};
        pipewright::parameter_options const options{.decay = decays};
        with.template update<float>(at, options, weights, gradient.host, weights, {m, v});
        device_vector<pipewright::adam::terms<float>> const terms({with.template terms_of<float>(at, options)});
        cuda::adam_update(nullptr, terms.data(), got.data(), gradient.device.data(), n, got.data(), got_m.data(),
                          got_v.data());
      }
      CHECK(difference(got, weights) < 1e-6);
      CHECK(difference(got_m, m) < 1e-6);
      CHECK(difference(got_v, v) < 1e-6);
    }
}

FOR_BOTH_TYPES("gradient descent with momentum") {
  std::size_t const n = 1001;
  pipewright::sgd const with{.rate = 1e-2, .momentum = 0.9, .weight_decay = 0.1};
  both<float> const start(n);
  numbers weights = start.host, moving(n);
  device_vector<float> got(start.host), got_moving(moving);
  for (std::int64_t step = 1; step <= 4; ++step) {
    both<T> const gradient(n);
    pipewright::optimizer_step const at{.number = step, .gradient_scale = 0.5};
    with.template update<float>(at, {}, weights, gradient.host, weights, {moving});
    device_vector<pipewright::sgd::terms<float>> const terms({with.template terms_of<float>(at, {})});
    cuda::sgd_update(nullptr, terms.data(), got.data(), gradient.device.data(), n, got.data(), got_moving.data());
  }
  CHECK(difference(got, weights) < 1e-6);
  CHECK(difference(got_moving, moving) < 1e-6);
}

TEST_CASE("stochastic rounding keeps the mean and what bf16 can say") {
  std::size_t const n = 200'000;
  numbers const between(n, 1.f + 0.3f / 128), exact(n, -1.5f), odd{std::numeric_limits<float>::infinity(), -0.f, 3.f};
  auto const rounded = [n](numbers const& from) {
    device_vector<float> const given(from);
    auto to = poisoned<cuda::bf16>(n);
    cuda::round_stochastically(nullptr, given.data(), from.size(), 9, to.data());
    return to.on_host();
  };
  auto to = rounded(between);
  double sum = 0;
  for (auto const v : to) {
    CHECK_UNARY(cuda::wide(v) == 1.f || cuda::wide(v) == 1.f + 1.f / 128);
    sum += cuda::wide(v) - 1.;
  }
  CHECK(sum / static_cast<double>(n) * 128 == doctest::Approx(0.3).epsilon(0.02));
  to = rounded(exact);
  CHECK(std::ranges::all_of(to, [](auto v) { return cuda::wide(v) == -1.5f; }));
  to = rounded(odd);
  CHECK(cuda::wide(to[0]) == odd[0]);
  CHECK(cuda::wide(to[1]) == 0.f);
  CHECK(cuda::wide(to[2]) == 3.f);
}

FOR_BOTH_TYPES("sums of squares") {
  for (std::size_t const n : {1u, 511u, 40'007u}) {
    both<T> x(n);
    double expected = 0;
    for (double const v : x.host) expected += v * v;
    auto const squares = [n](std::vector<T> const& of) {
      device_vector<T> const given(of);
      auto scratch = poisoned<float>(cuda::most_shares);
      device_vector<double> to({-1.});
      cuda::sum<true>(nullptr, given.data(), n, scratch.data(), to.data());
      return to.on_host().front();
    };
    CHECK(squares(x.given) == doctest::Approx(expected).epsilon(1e-6));
    x.given.back() = rounded<T>(std::numeric_limits<float>::infinity());
    CHECK_FALSE(std::isfinite(squares(x.given)));
  }
}

TEST_CASE("what no launch can do is said") {
  auto const message = [](auto work) {
    try {
      work();
    } catch (pipewright::error const& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(message([] { cuda::norm_backward_grid({1, 7000}); }) ==
        "pipewright: a layer norm of width 7000 is wider than the kernels have shared memory for, 6144");
  CHECK(message([] { cuda::attention<float>(nullptr, nullptr, {1, 1, 1, 129}, {}, nullptr, nullptr); }) ==
        "pipewright: attention's kernels have room for heads of up to 128 numbers, not 129; take more heads");
  auto const said = message(
      [] { cuda::launch{nullptr, 1, 1056}("accumulate", cuda::detail::accumulate<float>, nullptr, 0, nullptr); });
  CHECK(said.starts_with("pipewright: accumulate at "));
  CHECK(said.ends_with(" failed: invalid configuration argument (cudaErrorInvalidConfiguration)"));
}
