// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>

#include <pipewright/gpt2_cuda/flash_tiles.cuh>

namespace pipewright::inline v0::gpt2::cuda::detail {

/// A warp's rows' largest scores and sums of probabilities, of the keys that have come by; the sums still apart in the
/// 4 lanes of a row.
template<int M> struct row_softmax {
  float top[M][2], sum[M][2];

  __device__ row_softmax() {
    for (int m = 0; m < M; ++m)
      for (int h = 0; h < 2; ++h) top[m][h] = minus_infinity, sum[m][h] = 0.f;
  }
  /// Makes probabilities of scores, e^(scale (score - top)), and has what there was of `to` share the new top. `scale`
  /// is for powers of 2.
  template<int N, int D8> __device__ void take(sums (&scores)[M][N], sums (&to)[M][D8], float scale) {
    PIPEWRIGHT_UNROLL
    for (int m = 0; m < M; ++m) {
      PIPEWRIGHT_UNROLL
      for (int h = 0; h < 2; ++h) {
        float most = top[m][h];
        PIPEWRIGHT_UNROLL
        for (int n = 0; n < N; ++n) {
          auto const& v = scores[m][n].numbers;
          most = fmaxf(most, fmaxf(v[2 * h], v[2 * h + 1]));
        }
        most = warp_largest<4>(most);
        float const shrink = tensor_core::power_of_two(scale * (top[m][h] - most)), level = scale * most;
        top[m][h] = most;
        float more = 0.f;
        PIPEWRIGHT_UNROLL
        for (int n = 0; n < N; ++n) {
          PIPEWRIGHT_UNROLL
          for (int i = 2 * h; i < 2 * h + 2; ++i) {
            float& v = scores[m][n].numbers[i];
            v = tensor_core::power_of_two(v * scale - level);
            more += v;
          }
        }
        sum[m][h] = sum[m][h] * shrink + more;
        PIPEWRIGHT_UNROLL
        for (int n = 0; n < D8; ++n)
          for (int i = 2 * h; i < 2 * h + 2; ++i) to[m][n].numbers[i] *= shrink;
      }
    }
  }
};

template<int D> using forward_cut = flash_cut<D, D <= 64 ? 2 : 1, others>;
template<int D>
inline constexpr std::size_t forward_shared = forward_cut<D>::bytes_of_rows + 4 * bytes_of_others<D>;

/// A block 64 or 128 queries of a head: keys and values come by in tiles, the next while one is worked on.
template<int D, bool Drops>
__global__ void __launch_bounds__(flash_threads, 2)
    flash_attention(bf16 const* qkv, attention_shape s, device_dropout mask, float scale, bf16* out,
                    float* log_sum_exp) {
  using cut = forward_cut<D>;
  head_at const here(s);
  lane_at const l;
  flash_dropout<Drops> const drops(mask, s);
  auto* const room = flash_memory();
  flash_rows<D> const own{room};
  int const first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * cut::rows;  // those that see the most keys begin
  int const row = l.warp * cut::rows_of_warp, mine = first + row;
  int const seen = first + cut::rows < s.length ? first + cut::rows : s.length;
  bf16 const *const keys = here.in_qkv(qkv, 1), *const values = here.in_qkv(qkv, 2);
  auto const tile = [&](unsigned key) { return flash_rows<D>{room + (cut::rows + key / others % 2 * 2 * others) * D}; };
  auto const values_of = [](flash_rows<D> of_keys) { return flash_rows<D>{of_keys.at + others * D}; };
  auto const fetch = [&](int key) {
    tile(key).template fetch<others>(keys, here.stride, key, s.length, here.size);
    values_of(tile(key)).template fetch<others>(values, here.stride, key, s.length, here.size);
    tensor_core::close_copies();
  };
  own.template fetch<cut::rows>(here.in_qkv(qkv, 0), here.stride, first, s.length, here.size);
  tensor_core::close_copies();
  fetch(0);
  tensor_core::wait_for_copies<1>();
  __syncthreads();  // the queries are there for all

  left q[cut::tiles][D / 16];
  load_left(q, own, row);
  sums to[cut::tiles][D / 8]{};
  row_softmax<cut::tiles> rows;
  for (int key = 0; key < seen; key += others) {
    tensor_core::wait_for_copies<0>();
    __syncthreads();  // the tile is there for all, and the one before has been read
    if (key + others < seen) fetch(key + others);
    if (key >= mine + cut::rows_of_warp) continue;  // after all of the warp's queries
    sums scores[cut::tiles][others / 8];
    multiply_rows(scores, q, tile(key), 0);
    if (key + others > mine + 1) hide_later_keys<false>(scores, mine, key);
    rows.take(scores, to, scale * log2_of_e);
    if constexpr (Drops) {
      PIPEWRIGHT_UNROLL
      for (int m = 0; m < cut::tiles; ++m) {
        PIPEWRIGHT_UNROLL
        for (int n = 0; n < others / 8; ++n) {
          unsigned const kept = drops.template kept<false>(here, mine + 16 * m, key + 8 * n);
          PIPEWRIGHT_UNROLL
          for (int i = 0; i < 4; ++i)
            if (!(kept >> i & 1)) scores[m][n].numbers[i] = 0.f;
        }
      }
    }
    left probabilities[cut::tiles][others / 16];
    round_to_left(scores, probabilities);
    add_weighted_rows(to, probabilities, values_of(tile(key)), 0);
  }

  PIPEWRIGHT_UNROLL
  for (int m = 0; m < cut::tiles; ++m) {
    PIPEWRIGHT_UNROLL
    for (int h = 0; h < 2; ++h) {
      float const sum = warp_sum<4>(rows.sum[m][h]);
      float const share = drops.scale() / sum;
      PIPEWRIGHT_UNROLL
      for (int n = 0; n < D / 8; ++n)
        for (int i = 2 * h; i < 2 * h + 2; ++i) to[m][n].numbers[i] *= share;
      int const query = mine + 16 * m + 8 * h + l.g;
      if (l.t == 0 && query < s.length) log_sum_exp[here.query(query)] = rows.top[m][h] * scale + logf(sum);
    }
  }
  write_sums(to, own, row, here.in_rows(out), static_cast<std::size_t>(s.width), mine, s.length, here.size);
}

}  // namespace pipewright::inline v0::gpt2::cuda::detail
