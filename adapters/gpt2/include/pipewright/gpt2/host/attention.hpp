// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>

#include <pipewright/gpt2/dropout.hpp>
#include <pipewright/gpt2/host/gemm.hpp>
#include <pipewright/gpt2/host/math.hpp>
#include <pipewright/gpt2/shapes.hpp>

namespace pipewright::inline v0::gpt2::host {

/// Values of scratch that attention and its backward need: two score matrices and one head's queries.
[[nodiscard]] constexpr auto attention_scratch(attention_shape s) noexcept -> std::size_t {
  auto const length = static_cast<std::size_t>(s.length);
  return 2 * length * length + length * static_cast<std::size_t>(s.head_size());
}

namespace detail {

/// Calls use(sequence, head, index) for every head; index counts them all.
template<class Use>
void for_each_head(attention_shape s, Use use) {
  for (int sequence = 0; sequence < s.sequences; ++sequence) {
    for (int head = 0; head < s.heads; ++head) {
      use(static_cast<std::size_t>(sequence), static_cast<std::size_t>(head),
          static_cast<std::size_t>(sequence) * s.heads + head);
    }
  }
}

/// Where one head's columns start in the rows of a sequence.
struct head_columns {
  std::size_t qkv;
  std::size_t out;

  head_columns(attention_shape s, std::size_t sequence, std::size_t head)
      : qkv(sequence * s.length * 3 * s.width + head * s.head_size()),
        out(sequence * s.length * s.width + head * s.head_size()) {}
};

}  // namespace detail

/// Causal self-attention: out = dropout(softmax(q k^T / sqrt(head size))) v for each head; out is rows x width.
/// Of the probabilities only each row's log-sum-exp is kept (sequences * heads * length values), as in
/// FlashAttention (arXiv 2205.14135); the backward computes them again.
inline void attention(float const* qkv, attention_shape s, dropout const& mask, float* scratch, float* out,
                      float* log_sum_exp) {
  auto const length = static_cast<std::size_t>(s.length);
  auto const size = s.head_size();
  auto const stride = 3 * s.width;
  auto const scale = 1.f / std::sqrt(static_cast<float>(size));
  detail::for_each_head(s, [&](std::size_t sequence, std::size_t head, std::size_t index) {
    auto const at = detail::head_columns(s, sequence, head);
    auto const* const q = qkv + at.qkv;
    auto* const scores = scratch;
    gemm(s.length, s.length, size, scale, {q, stride}, transpose({q + s.width, stride}), 0.f, scores, s.length);
    for (std::size_t i = 0; i < length; ++i) {
      auto* const row = scores + i * length;
      auto const seen = i + 1;
      auto const top = largest(seen, row);
      for (std::size_t j = 0; j < seen; ++j) row[j] = exp(row[j] - top);
      auto const total = sum(seen, [row](std::size_t j) { return row[j]; });
      auto const share = 1.f / total;
      for (std::size_t j = 0; j < seen; ++j) row[j] *= share;
      std::fill(row + seen, row + length, 0.f);
      if (mask) mask.each((index * length + i) * length, seen, [row](std::size_t j, float f) { row[j] *= f; });
      log_sum_exp[index * length + i] = top + std::log(total);
    }
    gemm(s.length, size, s.length, 1.f, {scores, s.length}, {q + 2 * s.width, stride}, 0.f, out + at.out, s.width);
  });
}

/// The gradient of attention with respect to queries, keys and values, from the gradient of its output. dqkv is
/// laid out as qkv and may be qkv.
inline void attention_backward(float const* qkv, float const* out, float const* log_sum_exp, float const* d_out,
                               attention_shape s, dropout const& mask, float* scratch, float* dqkv) {
  auto const length = static_cast<std::size_t>(s.length);
  auto const size = s.head_size();
  auto const stride = 3 * s.width;
  auto const scale = 1.f / std::sqrt(static_cast<float>(size));
  detail::for_each_head(s, [&](std::size_t sequence, std::size_t head, std::size_t index) {
    auto const at = detail::head_columns(s, sequence, head);
    auto const* const q = qkv + at.qkv;
    auto const* const k = q + s.width;
    auto const* const v = k + s.width;
    auto const* const d_head = d_out + at.out;
    auto* const probabilities = scratch;               // becomes dropout(probabilities)
    auto* const d_scores = scratch + length * length;  // first the gradient of dropout(probabilities)
    auto* const dq = d_scores + length * length;
    gemm(s.length, s.length, size, scale, {q, stride}, transpose({k, stride}), 0.f, probabilities, s.length);
    gemm(s.length, s.length, size, 1.f, {d_head, s.width}, transpose({v, stride}), 0.f, d_scores, s.length);
    for (std::size_t i = 0; i < length; ++i) {
      auto* const p = probabilities + i * length;
      auto* const d = d_scores + i * length;
      auto const* const o = out + at.out + i * s.width;
      auto const* const g = d_head + i * s.width;
      auto const seen = i + 1;
      auto const level = log_sum_exp[index * length + i];
      auto const mean = sum(static_cast<std::size_t>(size), [=](std::size_t j) { return o[j] * g[j]; });
      for (std::size_t j = 0; j < seen; ++j) p[j] = exp(p[j] - level);
      if (mask) {
        mask.each((index * length + i) * length, seen, [=](std::size_t j, float f) {
          d[j] = p[j] * (f * d[j] - mean) * scale;
          p[j] *= f;
        });
      } else {
        for (std::size_t j = 0; j < seen; ++j) d[j] = p[j] * (d[j] - mean) * scale;
      }
      std::fill(p + seen, p + length, 0.f);
      std::fill(d + seen, d + length, 0.f);
    }
    gemm(s.length, size, s.length, 1.f, {d_scores, s.length}, {k, stride}, 0.f, dq, size);
    auto* const to = dqkv + at.qkv;  // q, k and v of this head are read for the last time just before each is written
    gemm(s.length, size, s.length, 1.f, transpose({d_scores, s.length}), {q, stride}, 0.f, to + s.width, stride);
    gemm(s.length, size, s.length, 1.f, transpose({probabilities, s.length}), {d_head, s.width}, 0.f, to + 2 * s.width,
         stride);
    for (std::size_t i = 0; i < length; ++i) std::copy_n(dq + i * size, size, to + i * stride);
  });
}

}  // namespace pipewright::inline v0::gpt2::host
