// SPDX-License-Identifier: Apache-2.0
// Each operation of the host backend against its double-precision formula, each backward against finite differences.
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/gpt2/host/backend.hpp>
#include <pipewright/stage/random.hpp>

#include "reference.hpp"

namespace gpt2 = pipewright::gpt2;
using reference::distance;
using reference::gradient;
using reference::narrowed;
using reference::random_values;
using reference::values;
using floats = std::vector<float>;

namespace {

gpt2::host_backend const on;

constexpr auto near = 2e-6;  // relative to the norm; fp32 has 6e-8

auto dropping(float probability) -> gpt2::dropout {
  return {.stream = pipewright::keyed_random{.seed = 11}.at(2), .probability = probability};
}

}  // namespace

TEST_CASE(
    "for a processor that OpenBLAS does not know there is advice, where it has better kernels, and for no other") {
  CHECK(gpt2::host::faster_blas("Haswell") == "");
  CHECK(gpt2::host::faster_blas("SkylakeX") == "");
  CHECK(gpt2::host::faster_blas("") == "");  // of another kind
#ifdef __x86_64__
  auto const advice = gpt2::host::faster_blas("Prescott");
  CHECK(advice.starts_with("OPENBLAS_CORETYPE=") == (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")));
#endif
}

TEST_CASE("exp is within 2 units in the last place") {
  for (auto x = -87.; x <= 88.; x += 0.00137) {
    auto const exact = std::exp(static_cast<double>(static_cast<float>(x)));
    auto const unit = std::ldexp(1., std::ilogb(exact) - 23);
    REQUIRE(std::abs(gpt2::host::exp(static_cast<float>(x)) - exact) <= 2 * unit);
  }
  CHECK(gpt2::host::exp(0.f) == 1.f);
  CHECK(gpt2::host::exp(-1e30f) < 1e-37f);
  CHECK(gpt2::host::exp(1e30f) < std::numeric_limits<float>::infinity());
}

TEST_CASE("gelu and its slope") {
  values value, slope;
  floats ours, our_slope;
  for (auto x = -12.; x <= 12.; x += 0.01) {
    auto const at = static_cast<double>(static_cast<float>(x));
    value.push_back(reference::gelu(at));
    slope.push_back((reference::gelu(at + 1e-5) - reference::gelu(at - 1e-5)) / 2e-5);
    ours.push_back(gpt2::host::gelu::value(static_cast<float>(x)));
    our_slope.push_back(gpt2::host::gelu::slope(static_cast<float>(x)));
    REQUIRE(std::abs(ours.back() - value.back()) < 1e-6 * std::max(1., std::abs(at)));
    REQUIRE(std::abs(our_slope.back() - slope.back()) < 2e-6);
  }
  CHECK(distance(ours, value) < near);
}

TEST_CASE("linear, and the gelu after it") {
  for (auto const& [rows, in, out] : {gpt2::linear_shape{1, 1, 1}, {3, 5, 7}, {13, 16, 48}, {31, 33, 2}}) {
    CAPTURE(rows);
    auto const shape = gpt2::linear_shape{rows, in, out};
    auto const x = random_values(rows * in, 1);
    auto const w = random_values(in * out, 2, 0.3);
    auto const b = random_values(out, 3);
    auto const dy = random_values(rows * out, 4);
    auto const expected = reference::linear(x, w, b, rows, in, out);
    floats y(rows * out), before(rows * out);
    auto const fx = narrowed(x), fw = narrowed(w), fb = narrowed(b), fdy = narrowed(dy);
    on.linear(fx.data(), fw.data(), fb.data(), shape, y.data());
    CHECK(distance(y, expected) < near);

    auto activated = expected;
    for (auto& each : activated) each = reference::gelu(each);
    on.linear_gelu(fx.data(), fw.data(), fb.data(), shape, before.data(), y.data());
    CHECK(distance(before, expected) < near);
    CHECK(distance(y, activated) < near);

    auto const loss = [&](values const& px, values const& pw, values const& pb) {
      return reference::dot(dy, reference::linear(px, pw, pb, rows, in, out));
    };
    floats dx(rows * in);
    on.linear_backward_input(fdy.data(), fw.data(), shape, dx.data());
    CHECK(distance(dx, gradient([&](values const& v) { return loss(v, w, b); }, x)) < near);

    floats dw(in * out, 2.f), db(out, -1.f);  // gradients are added to what is there
    on.linear_backward_weights(fx.data(), fdy.data(), shape, dw.data(), db.data());
    auto expected_dw = gradient([&](values const& v) { return loss(x, v, b); }, w);
    auto expected_db = gradient([&](values const& v) { return loss(x, w, v); }, b);
    for (auto& each : expected_dw) each += 2.;
    for (auto& each : expected_db) each -= 1.;
    CHECK(distance(dw, expected_dw) < near);
    CHECK(distance(db, expected_db) < near);

    // The linear after a gelu: its input gradient goes on to what was before the gelu, in place.
    auto const through = [&](values v) {
      for (auto& each : v) each = reference::gelu(each);
      return loss(v, w, b);
    };
    floats scratch(rows * in), in_place = fx;
    on.linear_gelu_backward_input(fdy.data(), fw.data(), in_place.data(), shape, scratch.data(), in_place.data());
    CHECK(distance(in_place, gradient(through, x)) < near);
  }
}

TEST_CASE("layer norm, alone and after a residual addition") {
  for (auto const p : {0.f, 0.4f}) {
    for (auto const& [rows, width] : {gpt2::row_shape{1, 2}, {3, 7}, {5, 16}, {9, 45}}) {
      CAPTURE(width);
      auto const shape = gpt2::row_shape{rows, width};
      auto const mask = dropping(p);
      auto const base = random_values(shape.size(), 1, 3.);
      auto const branch = random_values(shape.size(), 2);
      auto const w = random_values(width, 3);
      auto const b = random_values(width, 4);
      auto const dy = random_values(shape.size(), 5);
      auto const residual = random_values(shape.size(), 6);
      auto total = base;
      auto const keep = reference::factors(mask, shape.size());
      for (std::size_t i = 0; i < total.size(); ++i) total[i] += keep[i] * branch[i];

      floats sum(shape.size()), y(shape.size()), mean(rows), reciprocal(rows);
      auto const fbase = narrowed(base), fbranch = narrowed(branch), fw = narrowed(w), fb = narrowed(b);
      on.add_layer_norm(fbase.data(), fbranch.data(), mask, fw.data(), fb.data(), shape, sum.data(), y.data(),
                        mean.data(), reciprocal.data());
      CHECK(distance(sum, total) < near);
      CHECK(distance(y, reference::layer_norm(total, w, b, rows, width)) < 2e-5);  // 2 columns cancel

      floats again(shape.size()), mean_again(rows), reciprocal_again(rows);
      on.layer_norm(sum.data(), fw.data(), fb.data(), shape, again.data(), mean_again.data(), reciprocal_again.data());
      CHECK(again == y);
      CHECK(mean_again == mean);
      CHECK(reciprocal_again == reciprocal);

      total.assign(sum.begin(), sum.end());
      auto const loss = [&](values const& px, values const& pw, values const& pb) {
        return reference::dot(dy, reference::layer_norm(px, pw, pb, rows, width));
      };
      auto expected = gradient([&](values const& v) { return loss(v, w, b); }, total);
      auto const fdy = narrowed(dy), fresidual = narrowed(residual);
      floats dx(shape.size()), dw(width, 9.f), db(width, 9.f);  // these are overwritten
      on.layer_norm_backward(sum.data(), mean.data(), reciprocal.data(), fw.data(), fdy.data(), nullptr, shape,
                             dx.data(), dw.data(), db.data());
      if (width > 2) CHECK(distance(dx, expected) < 2e-5);
      CHECK(distance(dw, gradient([&](values const& v) { return loss(total, v, b); }, w)) < 2e-5);
      CHECK(distance(db, gradient([&](values const& v) { return loss(total, w, v); }, b)) < near);

      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += residual[i];
      auto in_x = sum;
      on.layer_norm_backward(in_x.data(), mean.data(), reciprocal.data(), fw.data(), fdy.data(), fresidual.data(),
                             shape, in_x.data(), dw.data(), db.data());
      CHECK(distance(in_x, expected) < 2e-5);
      auto in_dy = fdy;
      on.layer_norm_backward(sum.data(), mean.data(), reciprocal.data(), fw.data(), in_dy.data(), fresidual.data(),
                             shape, in_dy.data(), dw.data(), db.data());
      CHECK(in_dy == in_x);
    }
  }
}

TEST_CASE("causal attention") {
  for (auto const p : {0.f, 0.3f}) {
    for (auto const& shape : {gpt2::attention_shape{1, 1, 1, 2}, {2, 5, 1, 4}, {1, 9, 3, 12}, {3, 7, 2, 10}}) {
      CAPTURE(shape.length);
      CAPTURE(p);
      auto const mask = dropping(p);
      auto const tokens = static_cast<std::size_t>(shape.rows());
      auto const qkv = random_values(tokens * 3 * shape.width, 1);
      auto const dy = random_values(tokens * shape.width, 2);
      auto const fqkv = narrowed(qkv), fdy = narrowed(dy);
      floats out(tokens * shape.width), lse(tokens * shape.heads), scratch(on.attention_scratch(shape), 7.f);
      on.attention(fqkv.data(), shape, mask, scratch.data(), out.data(), lse.data());
      CHECK(distance(out, reference::attention(qkv, shape, mask)) < near);

      auto const expected =
          gradient([&](values const& v) { return reference::dot(dy, reference::attention(v, shape, mask)); }, qkv);
      floats dqkv(tokens * 3 * shape.width);
      on.attention_backward(fqkv.data(), out.data(), lse.data(), fdy.data(), shape, mask, scratch.data(), dqkv.data());
      CHECK(distance(dqkv, expected) < 2 * near);
      auto in_place = fqkv;
      on.attention_backward(in_place.data(), out.data(), lse.data(), fdy.data(), shape, mask, scratch.data(),
                            in_place.data());
      CHECK(in_place == dqkv);
    }
  }
}

TEST_CASE("attention does not look ahead, and takes large scores") {
  for (auto const deviation : {1., 40.}) {
    auto const shape = gpt2::attention_shape{1, 6, 2, 8};
    auto const count = static_cast<std::size_t>(shape.rows()) * 3 * shape.width;
    auto qkv = narrowed(random_values(count, 3, deviation));
    floats out(shape.rows() * shape.width), later(out), lse(shape.rows() * shape.heads);
    floats scratch(on.attention_scratch(shape));
    on.attention(qkv.data(), shape, {}, scratch.data(), out.data(), lse.data());
    for (auto const v : out) CHECK(std::isfinite(v));
    for (std::size_t i = count - 3 * shape.width; i < count; ++i) qkv[i] += 1.f;  // the last token
    on.attention(qkv.data(), shape, {}, scratch.data(), later.data(), lse.data());
    auto const before = (shape.rows() - 1) * shape.width;
    CHECK(std::equal(out.begin(), out.begin() + before, later.begin()));
    if (deviation == 1.) CHECK(!std::equal(out.begin() + before, out.end(), later.begin() + before));
  }
}

TEST_CASE("dropout on a residual branch") {
  auto const mask = dropping(0.25f);
  auto const base = narrowed(random_values(103, 1)), branch = narrowed(random_values(103, 2));
  floats to(103), back(103);
  on.add_dropout(base.data(), branch.data(), to.size(), mask, to.data());
  on.dropout_backward(branch.data(), back.size(), mask, back.data());
  for (std::size_t i = 0; i < to.size(); ++i) {
    CHECK(to[i] == doctest::Approx(base[i] + mask.factor(i) * branch[i]));
    CHECK(back[i] == mask.factor(i) * branch[i]);
  }
  on.add_dropout(base.data(), branch.data(), to.size(), {}, to.data());
  for (std::size_t i = 0; i < to.size(); ++i) CHECK(to[i] == base[i] + branch[i]);
}

TEST_CASE("embedding and its scatter") {
  constexpr auto width = 6, vocabulary = 9, positions = 7;
  auto const batch = gpt2::batch_shape{2, 5};
  auto const tokens = std::vector<std::int32_t>{3, 3, 0, 8, 3, 1, 1, 8, 2, 0};  // tokens repeat
  for (auto const p : {0.f, 0.5f}) {
    auto const mask = dropping(p);
    auto const wte = random_values(vocabulary * width, 1), wpe = random_values(positions * width, 2);
    auto const dy = random_values(tokens.size() * width, 3);
    auto const keep = reference::factors(mask, dy.size());
    auto const forward = [&](values const& t, values const& w) {
      values y(dy.size());
      for (std::size_t i = 0; i < y.size(); ++i) {
        auto const row = i / width;
        y[i] = keep[i] * (t[tokens[row] * width + i % width] + w[row % 5 * width + i % width]);
      }
      return y;
    };
    auto const fwte = narrowed(wte), fwpe = narrowed(wpe), fdy = narrowed(dy);
    floats y(dy.size()), dwte(wte.size(), 1.f), dwpe(wpe.size(), 1.f);
    on.embed(tokens, fwte.data(), fwpe.data(), batch, width, mask, y.data());
    CHECK(distance(y, forward(wte, wpe)) < near);
    on.embed_backward_weights(tokens, fdy.data(), batch, width, mask, dwte.data(), dwpe.data());
    auto expected = gradient([&](values const& v) { return reference::dot(dy, forward(v, wpe)); }, wte);
    for (auto& each : expected) each += 1.;
    CHECK(distance(dwte, expected) < near);
    expected = gradient([&](values const& v) { return reference::dot(dy, forward(wte, v)); }, wpe);
    for (auto& each : expected) each += 1.;
    CHECK(distance(dwpe, expected) < near);
  }
}

TEST_CASE("logits and classifier") {
  auto const shape = gpt2::linear_shape{5, 8, 13};
  auto const targets = std::vector<std::int32_t>{0, 12, -100, 4, 4};
  auto const x = random_values(5 * 8, 1), table = random_values(13 * 8, 2);
  auto const forward = [&](values const& px, values const& pt) {
    values transposed(8 * 13);
    for (int i = 0; i < 13; ++i) {
      for (int k = 0; k < 8; ++k) transposed[k * 13 + i] = pt[i * 8 + k];
    }
    return reference::linear(px, transposed, values(13), 5, 8, 13);
  };
  constexpr auto scale = 0.25;
  auto const loss = [&](values const& logits) {
    auto sum = 0.;
    for (auto const each : reference::cross_entropy(logits, targets, 13)) sum += each;
    return sum * scale;
  };
  auto const fx = narrowed(x), ftable = narrowed(table);
  floats logits(5 * 13), losses(5), dx(5 * 8), dtable(13 * 8, 1.f);
  on.logits(fx.data(), ftable.data(), shape, logits.data());
  auto const expected = forward(x, table);
  CHECK(distance(logits, expected) < near);

  on.classify(logits.data(), targets, {5, 13}, scale, losses.data());
  CHECK(distance(losses, reference::cross_entropy(expected, targets, 13)) < near);
  CHECK(losses[2] == 0.f);
  CHECK(distance(logits, gradient(loss, expected)) < near);

  on.logits_backward_input(logits.data(), ftable.data(), shape, dx.data());
  CHECK(distance(dx, gradient([&](values const& v) { return loss(forward(v, table)); }, x)) < near);
  on.logits_backward_weights(fx.data(), logits.data(), shape, dtable.data());
  auto expected_table = gradient([&](values const& v) { return loss(forward(x, v)); }, table);
  for (auto& each : expected_table) each += 1.;
  CHECK(distance(dtable, expected_table) < near);

  // Logits so far apart that exp would overflow, or vanish.
  floats extreme{200.f, -200.f, 0.f, 90.f};
  on.classify(extreme.data(), {1}, {1, 4}, 1.f, losses.data());
  CHECK(losses[0] == doctest::Approx(400.));
  CHECK(extreme[0] == doctest::Approx(1.));
  CHECK(extreme[1] == doctest::Approx(-1.));
}

TEST_CASE("equal arguments give equal bits") {
  auto const shape = gpt2::linear_shape{37, 24, 72};
  auto const x = narrowed(random_values(37 * 24, 1)), w = narrowed(random_values(24 * 72, 2)),
             b = narrowed(random_values(72, 3));
  floats first(37 * 72), again(37 * 72 + 1);
  on.linear(x.data(), w.data(), b.data(), shape, first.data());
  for (int i = 0; i < 20; ++i) {
    on.linear(x.data(), w.data(), b.data(), shape, again.data() + i % 2);  // also elsewhere in memory
    CHECK(std::equal(first.begin(), first.end(), again.begin() + i % 2));
  }
}
