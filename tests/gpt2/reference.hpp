// SPDX-License-Identifier: Apache-2.0
#pragma once
// GPT-2's forward operations written straight from their formulas in double precision, and gradients by finite
// differences of them: the oracle of the fp32 operations and their backward.
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numbers>
#include <random>
#include <vector>

#include <pipewright/gpt2/dropout.hpp>
#include <pipewright/gpt2/shapes.hpp>

namespace reference {

using values = std::vector<double>;
using pipewright::gpt2::attention_shape;
using pipewright::gpt2::dropout;

inline auto random_values(std::size_t count, unsigned seed, double deviation = 1.) -> values {
  auto engine = std::mt19937(seed);
  auto normal = std::normal_distribution<double>(0., deviation);
  values v(count);
  for (auto& each : v) each = static_cast<float>(normal(engine));  // exact in fp32 too
  return v;
}

inline auto narrowed(values const& v) -> std::vector<float> { return {v.begin(), v.end()}; }

/// ||a - b|| / ||b||.
template<class A, class B>
auto distance(A const& a, B const& b) -> double {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  auto difference = 0.;
  auto norm = 0.;
  for (std::size_t i = 0; i < a.size(); ++i) {
    auto const d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    difference += d * d;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return difference == 0. ? 0. : std::sqrt(difference / norm);
}

inline auto dot(values const& a, values const& b) -> double {
  auto sum = 0.;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// The gradient of f at x by central differences; f(x) is a scalar.
inline auto gradient(std::function<double(values const&)> const& f, values x) -> values {
  constexpr auto step = 1e-5;
  values g(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    auto const here = x[i];
    x[i] = here + step;
    auto const above = f(x);
    x[i] = here - step;
    auto const below = f(x);
    x[i] = here;
    g[i] = (above - below) / (2 * step);
  }
  return g;
}

inline auto factors(dropout const& mask, std::size_t count) -> values {
  values f(count, 1.);
  if (mask) {
    for (std::size_t i = 0; i < count; ++i) f[i] = mask.factor(i);
  }
  return f;
}

inline auto linear(values const& x, values const& w, values const& b, int rows, int in, int out) -> values {
  values y(static_cast<std::size_t>(rows * out));
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < out; ++j) {
      auto sum = b[j];
      for (int k = 0; k < in; ++k) sum += x[i * in + k] * w[k * out + j];
      y[i * out + j] = sum;
    }
  }
  return y;
}

inline auto gelu(double x) -> double {
  return 0.5 * x * (1. + std::tanh(std::sqrt(2. / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

inline auto layer_norm(values const& x, values const& w, values const& b, int rows, int width) -> values {
  auto y = x;
  for (int i = 0; i < rows; ++i) {
    auto mean = 0.;
    for (int j = 0; j < width; ++j) mean += x[i * width + j] / width;
    auto variance = 0.;
    for (int j = 0; j < width; ++j) variance += std::pow(x[i * width + j] - mean, 2) / width;
    for (int j = 0; j < width; ++j) {
      y[i * width + j] = (x[i * width + j] - mean) / std::sqrt(variance + 1e-5) * w[j] + b[j];
    }
  }
  return y;
}

inline auto attention(values const& qkv, attention_shape s, dropout const& mask) -> values {
  auto const size = s.width / s.heads;
  values out(static_cast<std::size_t>(s.sequences * s.length * s.width));
  auto const at = [&](int sequence, int token, int part, int head, int k) {
    return qkv[(sequence * s.length + token) * 3 * s.width + part * s.width + head * size + k];
  };
  for (int n = 0; n < s.sequences; ++n) {
    for (int h = 0; h < s.heads; ++h) {
      for (int i = 0; i < s.length; ++i) {
        values p;
        auto total = 0.;
        for (int j = 0; j <= i; ++j) {
          auto score = 0.;
          for (int k = 0; k < size; ++k) score += at(n, i, 0, h, k) * at(n, j, 1, h, k);
          p.push_back(std::exp(score / std::sqrt(size)));
          total += p.back();
        }
        for (int j = 0; j <= i; ++j) {
          auto weight = p[j] / total;
          if (mask)
            weight *= mask.factor(static_cast<std::uint64_t>(((n * s.heads + h) * s.length + i) * s.length + j));
          for (int k = 0; k < size; ++k) {
            out[(n * s.length + i) * s.width + h * size + k] += weight * at(n, j, 2, h, k);
          }
        }
      }
    }
  }
  return out;
}

/// -log softmax(logits)[target] of each row; 0 where the target is negative.
inline auto cross_entropy(values const& logits, std::vector<std::int32_t> const& targets, int width) -> values {
  values losses;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    auto const* const row = logits.data() + i * static_cast<std::size_t>(width);
    auto total = 0.;
    for (int j = 0; j < width; ++j) total += std::exp(row[j]);
    losses.push_back(targets[i] < 0 ? 0. : std::log(total) - row[targets[i]]);
  }
  return losses;
}

}  // namespace reference
