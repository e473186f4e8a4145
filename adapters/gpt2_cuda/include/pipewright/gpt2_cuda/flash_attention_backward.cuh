// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <pipewright/gpt2_cuda/flash_tiles.cuh>

namespace pipewright::inline v0::gpt2::cuda::detail {

/// What the backward knows of a query: its log-sum-exp, for powers of 2, and the sum of its output times the output's
/// gradient.
struct alignas(8) query_sums {
  float level, slope;
};
static_assert(sizeof(query_sums) == 4 * sizeof(bf16));  // as attention_scratch counts them

/// What a block has in shared memory: two kinds of its own rows, two of the other side's in turns, and these queries'
/// sums.
template<int D, class Cut> struct flash_backward_room {
  static constexpr std::size_t bytes =
      2 * Cut::bytes_of_rows + 4 * bytes_of_others<D> + 2 * others * sizeof(query_sums);
  bf16* at = flash_memory();

  __device__ flash_rows<D> own(int which) const { return {at + which * Cut::rows * D}; }
  __device__ flash_rows<D> other(int first, int which) const {
    return {at + (2 * Cut::rows + (turn(first) * 2 + which) * others) * D};
  }
  __device__ query_sums* sums_of(int first) const {
    return reinterpret_cast<query_sums*>(at + (2 * Cut::rows + 4 * others) * D) + turn(first) * others;
  }

 private:
  __device__ static unsigned turn(unsigned first) { return first / others % 2; }
};

template<int D> using queries_cut = flash_cut<D, D <= 64 ? 2 : 1, 32>;
template<int D> using keys_cut = flash_cut<D, D <= 64 ? 2 : 1, 16>;

/// The gradients of a block's queries, from all keys that they see, and the sums that the keys' gradients need.
template<int D, bool Drops>
__global__ void __launch_bounds__(flash_threads, 2)
    flash_backward_queries(bf16 const* qkv, bf16 const* out, float const* log_sum_exp, bf16 const* gradient,
                           attention_shape s, device_dropout mask, float scale, query_sums* of_queries, bf16* to,
                           std::size_t stride_of_to) {
  using cut = queries_cut<D>;
  constexpr int some = cut::some;
  head_at const here(s);
  lane_at const l;
  flash_dropout<Drops> const drops(mask, s);
  flash_backward_room<D, cut> const room;
  auto const width = static_cast<std::size_t>(s.width);
  int const first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * cut::rows;  // those that see the most keys begin
  int const row = l.warp * cut::rows_of_warp, mine = first + row;
  int const seen = first + cut::rows < s.length ? first + cut::rows : s.length;
  auto const fetch = [&](int key) {
    for (int i = 0; i < 2; ++i)
      room.other(key, i).template fetch<others>(here.in_qkv(qkv, 1 + i), here.stride, key, s.length, here.size);
    tensor_core::close_copies();
  };
  room.own(0).template fetch<cut::rows>(here.in_qkv(qkv, 0), here.stride, first, s.length, here.size);
  room.own(1).template fetch<cut::rows>(here.in_rows(gradient), width, first, s.length, here.size);
  tensor_core::close_copies();
  fetch(0);
  tensor_core::wait_for_copies<1>();
  __syncthreads();  // the queries are there for all

  left q[cut::tiles][D / 16], d_out[cut::tiles][D / 16];
  load_left(q, room.own(0), row);
  load_left(d_out, room.own(1), row);
  float level[cut::tiles][2], slope[cut::tiles][2];
  PIPEWRIGHT_UNROLL
  for (int m = 0; m < cut::tiles; ++m) {
    PIPEWRIGHT_UNROLL
    for (int h = 0; h < 2; ++h) {
      int const query = mine + 16 * m + 8 * h + l.g;
      bool const is_there = query < s.length;
      bf16 const* const o = here.in_rows(out) + (is_there ? static_cast<std::size_t>(query) * width : 0);
      float sum = 0.f;
      PIPEWRIGHT_UNROLL
      for (int c = 0; c < D / 8; ++c) {
        int const column = 8 * c + 2 * l.t;
        if (column >= here.size || !is_there) continue;
        auto const both = load<2>(o + column);
        auto const g = d_out[m][c / 2].numbers[h + c % 2 * 2];
        sum += both[0] * tensor_core::first_of(g) + both[1] * tensor_core::second_of(g);
      }
      slope[m][h] = warp_sum<4>(sum);
      level[m][h] = is_there ? log_sum_exp[here.query(query)] * log2_of_e : 0.f;
      if (is_there && l.t == 0) of_queries[here.query(query)] = {level[m][h], slope[m][h]};
    }
  }

  sums dq[cut::tiles][D / 8]{};
  for (int key = 0; key < seen; key += others) {
    tensor_core::wait_for_copies<0>();
    __syncthreads();  // the tile is there for all, and the one before has been read
    if (key + others < seen) fetch(key + others);
    int const keys = mine + cut::rows_of_warp - key;  // the others are after all of the warp's queries
    for (int at = 0; at < others && at < keys; at += some) {
      sums scores[cut::tiles][some / 8], d[cut::tiles][some / 8];
      multiply_rows(scores, q, room.other(key, 0), at);
      multiply_rows(d, d_out, room.other(key, 1), at);
      if (key + at + some > mine + 1) hide_later_keys<false>(scores, mine, key + at);
      PIPEWRIGHT_UNROLL
      for (int m = 0; m < cut::tiles; ++m) {
        PIPEWRIGHT_UNROLL
        for (int n = 0; n < some / 8; ++n) {
          unsigned const kept = Drops ? drops.template kept<false>(here, mine + 16 * m, key + at + 8 * n) : 0;
          PIPEWRIGHT_UNROLL
          for (int i = 0; i < 4; ++i) {
            float const p = tensor_core::power_of_two(scores[m][n].numbers[i] * (scale * log2_of_e) - level[m][i / 2]);
            float& v = d[m][n].numbers[i];
            if constexpr (Drops) v *= drops.factor(kept, i);
            v = p * (v - slope[m][i / 2]);
          }
        }
      }
      left d_scores[cut::tiles][some / 16];
      round_to_left(d, d_scores);
      add_weighted_rows(dq, d_scores, room.other(key, 0), at);
    }
  }
  multiply(dq, scale);
  write_sums(dq, room.own(0), row, here.in_rows(to, stride_of_to), stride_of_to, mine, s.length, here.size);
}

/// The gradients of a block's keys and values, from all queries that see them, in `to`, which may be qkv: no block
/// reads another's. Scores stand transposed, so that probabilities and gradients of scores are the next products' left
/// sides as they are.
template<int D, bool Drops>
__global__ void __launch_bounds__(flash_threads, 2)
    flash_backward_keys(bf16 const* qkv, bf16 const* gradient, attention_shape s, device_dropout mask, float scale,
                        query_sums const* of_queries, bf16* to) {
  using cut = keys_cut<D>;
  constexpr int some = cut::some;
  head_at const here(s);
  lane_at const l;
  flash_dropout<Drops> const drops(mask, s);
  flash_backward_room<D, cut> const room;
  auto const width = static_cast<std::size_t>(s.width);
  int const first = static_cast<int>(blockIdx.x) * cut::rows;
  int const row = l.warp * cut::rows_of_warp, mine = first + row;
  auto const fetch = [&](int query) {
    room.other(query, 0).template fetch<others>(here.in_qkv(qkv, 0), here.stride, query, s.length, here.size);
    room.other(query, 1).template fetch<others>(here.in_rows(gradient), width, query, s.length, here.size);
    if (int const i = static_cast<int>(thread_again()); i < others) {
      bool const is_there = query + i < s.length;
      tensor_core::copy_async<8>(room.sums_of(query) + i, of_queries + here.query(is_there ? query + i : 0), is_there);
    }
    tensor_core::close_copies();
  };
  for (int i = 0; i < 2; ++i)
    room.own(i).template fetch<cut::rows>(here.in_qkv(qkv, 1 + i), here.stride, first, s.length, here.size);
  tensor_core::close_copies();
  fetch(first);
  tensor_core::wait_for_copies<1>();
  __syncthreads();  // the keys are there for all

  left k[cut::tiles][D / 16], v[cut::tiles][D / 16];
  load_left(k, room.own(0), row);
  load_left(v, room.own(1), row);
  sums dk[cut::tiles][D / 8]{}, dv[cut::tiles][D / 8]{};
  for (int query = first; query < s.length; query += others) {
    tensor_core::wait_for_copies<0>();
    __syncthreads();  // the tile is there for all, and the one before has been read
    if (query + others < s.length) fetch(query + others);
    int const before = mine > query ? (mine - query) / some * some : 0;  // all of the warp's keys
    for (int at = before; at < others && query + at < s.length; at += some) {
      sums scores[cut::tiles][some / 8], d[cut::tiles][some / 8];
      multiply_rows(scores, k, room.other(query, 0), at);
      multiply_rows(d, v, room.other(query, 1), at);
      if (query + at < mine + cut::rows_of_warp - 1) hide_later_keys<true>(scores, query + at, mine);
      PIPEWRIGHT_UNROLL
      for (int n = 0; n < some / 8; ++n) {
        struct alignas(16) pair {
          query_sums of[2];
        };
        pair const sums_here = *reinterpret_cast<pair const*>(room.sums_of(query) + at + 8 * n + 2 * l.t);
        PIPEWRIGHT_UNROLL
        for (int m = 0; m < cut::tiles; ++m) {
          unsigned const kept = Drops ? drops.template kept<true>(here, query + at + 8 * n, mine + 16 * m) : 0;
          PIPEWRIGHT_UNROLL
          for (int i = 0; i < 4; ++i) {
            auto const [level, slope] = sums_here.of[i % 2];
            float &p = scores[m][n].numbers[i], &g = d[m][n].numbers[i];
            p = tensor_core::power_of_two(p * (scale * log2_of_e) - level);
            if constexpr (Drops) g *= drops.factor(kept, i);
            g = p * (g - slope);
            if constexpr (Drops) p *= drops.factor(kept, i);
          }
        }
      }
      left probabilities[cut::tiles][some / 16], d_scores[cut::tiles][some / 16];
      round_to_left(scores, probabilities);
      round_to_left(d, d_scores);
      add_weighted_rows(dv, probabilities, room.other(query, 1), at);
      add_weighted_rows(dk, d_scores, room.other(query, 0), at);
    }
  }
  multiply(dk, scale);
  write_sums(dk, room.own(0), row, here.in_qkv(to, 1), here.stride, mine, s.length, here.size);
  write_sums(dv, room.own(1), row, here.in_qkv(to, 2), here.stride, mine, s.length, here.size);
}

}  // namespace pipewright::inline v0::gpt2::cuda::detail
