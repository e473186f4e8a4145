// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include <pipewright/gpt2/shapes.hpp>
#include <pipewright/gpt2_cuda/attention_head.cuh>
#include <pipewright/gpt2_cuda/device.cuh>
#include <pipewright/gpt2_cuda/flash_attention.cuh>
#include <pipewright/gpt2_cuda/flash_attention_backward.cuh>
#include <pipewright/gpt2_cuda/operations.hpp>

namespace pipewright::inline v0::gpt2::cuda {

namespace detail {

/// Queries and keys of a tile; a thread has the rows ty and ty + 16 of a result and the columns tx, tx + 16, ...
inline constexpr int tile = 32, half = tile / 2;

struct tile_thread {
  int tx = static_cast<int>(threadIdx.x) % half, ty = static_cast<int>(threadIdx.x) / half;
};

/// 32 rows of a head, in fp32, zeros beyond the sequence and the head's size. D + 1 apart, so that a column's numbers
/// lie in different banks.
template<int D> struct rows_of_head {
  float (*numbers)[D + 1];

  template<number T> __device__ void load(T const* from, std::size_t stride, int first, int length, int size) const {
    for (int i = static_cast<int>(threadIdx.x); i < tile * D; i += static_cast<int>(blockDim.x)) {
      int const row = i / D, column = i % D;
      bool const is_there = first + row < length && column < size;
      numbers[row][column] =
          is_there ? wide(from[static_cast<std::size_t>(first + row) * stride + static_cast<std::size_t>(column)])
                   : 0.f;
    }
  }
  __device__ float const* operator[](int row) const { return numbers[row]; }
};
using scores = float (*)[tile + 1];

/// A thread's numbers of 32 rows of a head, to where the head's first row begins.
template<int N, number T>
__device__ void write_rows(head_at const& here, tile_thread const& t, float const (&of)[2][N], int first, T* to,
                           std::size_t stride) {
  for (int a = 0; a < 2; ++a) {
    int const row = first + t.ty + half * a;
    if (row >= here.s.length) continue;
    for (int c = 0; c < N; ++c)
      if (int const column = t.tx + half * c; column < here.size)
        to[static_cast<std::size_t>(row) * stride + static_cast<std::size_t>(column)] = narrow<T>(of[a][c]);
  }
}
template<int D> __device__ float dot(float const* a, float const* b) {
  float sum = 0;
  for (int k = 0; k < D; ++k) sum += a[k] * b[k];
  return sum;
}

template<int D> inline constexpr std::size_t bytes_of_rows = sizeof(float) * tile * (D + 1);
inline constexpr std::size_t bytes_of_scores = sizeof(float) * tile * (tile + 1);

/// A block 32 queries of a head: keys come by in tiles, and the largest score and the sum of a row are kept up to date.
template<int D, number T>
__global__ void attention(T const* qkv, attention_shape s, device_dropout given, float scale, T* out,
                          float* log_sum_exp) {
  dropout const mask = given.now();
  tile_thread const t;
  head_at const here(s);
  auto* const room = shared_memory<float>();
  rows_of_head<D> const q{reinterpret_cast<float(*)[D + 1]>(room)}, kv{q.numbers + tile};
  auto const p = reinterpret_cast<scores>(kv.numbers + tile);
  int const first = static_cast<int>(blockIdx.x) * tile;
  q.load(here.in_qkv(qkv, 0), here.stride, first, s.length, here.size);
  float top[2]{lowest, lowest}, sum[2]{}, to[2][D / half]{};
  for (int keys = 0; keys <= first; keys += tile) {
    __syncthreads();  // the last tile's values have been read
    kv.load(here.in_qkv(qkv, 1), here.stride, keys, s.length, here.size);
    __syncthreads();
    for (int a = 0; a < 2; ++a) {
      int const row = t.ty + half * a, i = first + row;
      float score[2];
      for (int b = 0; b < 2; ++b) {
        int const column = t.tx + half * b;
        score[b] = here.sees(i, keys + column) ? scale * dot<D>(q[row], kv[column]) : lowest;
      }
      float const most = warp_largest<half>(fmaxf(top[a], fmaxf(score[0], score[1]))), shrink = expf(top[a] - most);
      top[a] = most;
      float both = 0;
      for (int b = 0; b < 2; ++b) {
        int const column = t.tx + half * b;
        float const each = here.sees(i, keys + column) ? expf(score[b] - most) : 0.f;
        both += each;
        p[row][column] = each == 0.f ? 0.f : each * here.factor(mask, i, keys + column);
      }
      sum[a] = sum[a] * shrink + warp_sum<half>(both);
      for (float& each : to[a]) each *= shrink;
    }
    __syncthreads();
    kv.load(here.in_qkv(qkv, 2), here.stride, keys, s.length, here.size);
    __syncthreads();
    for (int a = 0; a < 2; ++a)
      for (int j = 0; j < tile; ++j)
        for (int c = 0; c < D / half; ++c) to[a][c] += p[t.ty + half * a][j] * kv[j][t.tx + half * c];
  }
  for (int a = 0; a < 2; ++a) {
    for (float& each : to[a]) each /= sum[a];
    int const i = first + t.ty + half * a;
    if (t.tx == 0 && i < s.length) log_sum_exp[here.query(i)] = top[a] + logf(sum[a]);
  }
  write_rows(here, t, to, first, here.in_rows(out), static_cast<std::size_t>(s.width));
}

/// What a block of the backward has in shared memory.
template<int D> struct backward_tiles {
  rows_of_head<D> q, k, v, d_out;
  scores p, d;
  static constexpr std::size_t bytes = 4 * bytes_of_rows<D> + 2 * bytes_of_scores;

  __device__ backward_tiles()
      : q{reinterpret_cast<float (*)[D + 1]>(shared_memory<float>())},
        k{q.numbers + tile},
        v{k.numbers + tile},
        d_out{v.numbers + tile},
        p{reinterpret_cast<scores>(d_out.numbers + tile)},
        d{p + tile} {}
};

/// What both halves of the backward make of a tile of queries and a tile of keys: the probabilities, dropped out, and
/// the gradients of the scores. `level`, `slope`: of this thread's rows, their log-sum-exp and the sum of gradient
/// times output.
template<int D>
__device__ void score_gradients(head_at const& here, tile_thread const& t, backward_tiles<D> const& at, int queries,
                                int keys, float scale, dropout const& mask, float const (&level)[2],
                                float const (&slope)[2]) {
  for (int a = 0; a < 2; ++a)
    for (int b = 0; b < 2; ++b) {
      int const row = t.ty + half * a, column = t.tx + half * b;
      float probability = 0.f, factor = 0.f, gradient = 0.f;
      if (here.sees(queries + row, keys + column)) {
        probability = expf(scale * dot<D>(at.q[row], at.k[column]) - level[a]);
        factor = here.factor(mask, queries + row, keys + column);
        gradient = probability * (factor * dot<D>(at.d_out[row], at.v[column]) - slope[a]) * scale;
      }
      at.p[row][column] = probability * factor;
      at.d[row][column] = gradient;
    }
}
template<int D, number T>
__device__ void read_rows(head_at const& here, tile_thread const& t, rows_of_head<D> const& d_out, T const* out,
                          float const* log_sum_exp, int queries, float (&level)[2], float (&slope)[2]) {
  for (int a = 0; a < 2; ++a) {
    int const row = t.ty + half * a, i = queries + row;
    float sum = 0;
    if (i < here.s.length) {
      T const* const o = here.in_rows(out) + static_cast<std::size_t>(i) * static_cast<std::size_t>(here.s.width);
      for (int c = t.tx; c < here.size; c += half) sum += wide(o[c]) * d_out[row][c];
    }
    slope[a] = warp_sum<half>(sum);
    level[a] = i < here.s.length ? log_sum_exp[here.query(i)] : 0.f;
  }
}

/// A block 32 keys of a head: the gradients of keys and values, from all queries that see them, in `to`, which may be
/// qkv: no block reads another's keys and values.
template<int D, number T>
__global__ void attention_backward_keys(T const* qkv, T const* out, float const* log_sum_exp, T const* gradient,
                                        attention_shape s, device_dropout given, float scale, T* to) {
  dropout const mask = given.now();
  tile_thread const t;
  head_at const here(s);
  backward_tiles<D> const at;
  int const first = static_cast<int>(blockIdx.x) * tile;
  at.k.load(here.in_qkv(qkv, 1), here.stride, first, s.length, here.size);
  at.v.load(here.in_qkv(qkv, 2), here.stride, first, s.length, here.size);
  float dk[2][D / half]{}, dv[2][D / half]{}, level[2], slope[2];
  for (int queries = first; queries < s.length; queries += tile) {
    __syncthreads();  // the tile before has been read
    at.q.load(here.in_qkv(qkv, 0), here.stride, queries, s.length, here.size);
    at.d_out.load(here.in_rows(gradient), static_cast<std::size_t>(s.width), queries, s.length, here.size);
    __syncthreads();
    read_rows(here, t, at.d_out, out, log_sum_exp, queries, level, slope);
    score_gradients(here, t, at, queries, first, scale, mask, level, slope);
    __syncthreads();
    for (int a = 0; a < 2; ++a)
      for (int i = 0; i < tile; ++i)
        for (int c = 0; c < D / half; ++c) {
          int const column = t.tx + half * c, row = t.ty + half * a;
          dv[a][c] += at.p[i][row] * at.d_out[i][column];
          dk[a][c] += at.d[i][row] * at.q[i][column];
        }
  }
  write_rows(here, t, dk, first, here.in_qkv(to, 1), here.stride);
  write_rows(here, t, dv, first, here.in_qkv(to, 2), here.stride);
}

/// A block 32 queries of a head: their gradients, from all keys that they see. Apart from the keys', so that no two
/// blocks add to one number.
template<int D, number T>
__global__ void attention_backward_queries(T const* qkv, T const* out, float const* log_sum_exp, T const* gradient,
                                           attention_shape s, device_dropout given, float scale, T* to,
                                           std::size_t stride_of_to) {
  dropout const mask = given.now();
  tile_thread const t;
  head_at const here(s);
  backward_tiles<D> const at;
  int const first = static_cast<int>(blockIdx.x) * tile;
  at.q.load(here.in_qkv(qkv, 0), here.stride, first, s.length, here.size);
  at.d_out.load(here.in_rows(gradient), static_cast<std::size_t>(s.width), first, s.length, here.size);
  __syncthreads();
  float dq[2][D / half]{}, level[2], slope[2];
  read_rows(here, t, at.d_out, out, log_sum_exp, first, level, slope);
  for (int keys = 0; keys <= first; keys += tile) {
    __syncthreads();  // the tile before has been read
    at.k.load(here.in_qkv(qkv, 1), here.stride, keys, s.length, here.size);
    at.v.load(here.in_qkv(qkv, 2), here.stride, keys, s.length, here.size);
    __syncthreads();
    score_gradients(here, t, at, first, keys, scale, mask, level, slope);
    __syncthreads();
    for (int a = 0; a < 2; ++a)
      for (int j = 0; j < tile; ++j)
        for (int c = 0; c < D / half; ++c) dq[a][c] += at.d[t.ty + half * a][j] * at.k[j][t.tx + half * c];
  }
  write_rows(here, t, dq, first, here.in_rows(to, stride_of_to), stride_of_to);
}

/// Calls use(std::integral_constant<int, D>), D the least of 16, 32, 64 and 128 that has room for a head. Throws error
/// where none has.
void with_head_size(attention_shape s, auto const& use) {
  int const size = s.head_size();
  if (size <= 16) use(std::integral_constant<int, 16>());
  else if (size <= 32) use(std::integral_constant<int, 32>());
  else if (size <= 64) use(std::integral_constant<int, 64>());
  else if (size <= 128) use(std::integral_constant<int, 128>());
  else
    throw error("pipewright: attention's kernels have room for heads of up to 128 numbers, not " +
                std::to_string(size) + "; take more heads");
}

/// Whether tensor cores can be had: in bf16, where 16 bytes of rows of heads lie at multiples of them.
template<number T> bool is_for_tensor_cores(attention_shape s, auto const*... at) {
  return std::is_same_v<T, bf16> && s.head_size() % 8 == 0 && s.head_size() * s.heads == s.width &&
         (... && (reinterpret_cast<std::uintptr_t>(at) % 16 == 0));
}
inline float scale_of(attention_shape s) { return 1.f / std::sqrt(static_cast<float>(s.head_size())); }

/// Calls use(std::bool_constant) with whether anything is dropped.
void with_dropout(device_dropout const& mask, auto const& use) {
  if (mask) use(std::true_type());
  else use(std::false_type());
}

/// to = from, rows of `width` numbers that begin so far apart, on the device.
template<class T>
void copy_rows(cudaStream_t on, T const* from, std::size_t stride, std::size_t rows, std::size_t width, T* to,
               std::size_t stride_of_to) {
  if (rows == 0) return;
  pipewright::cuda::queue(
      "cudaMemcpy2DAsync", on,
      +[](cudaStream_t stream, T* into, std::size_t pitch, T const* source, std::size_t pitch_of_source,
          std::size_t bytes, std::size_t count) {
        return cudaMemcpy2DAsync(into, pitch, source, pitch_of_source, bytes, count, cudaMemcpyDeviceToDevice, stream);
      },
      to, stride_of_to * sizeof(T), from, stride * sizeof(T), width * sizeof(T), rows);
}

}  // namespace detail

template<class T>
void attention(cudaStream_t on, T const* qkv, attention_shape s, device_dropout const& mask, T* out,
               float* log_sum_exp) {
  using namespace detail;
  float const scale = scale_of(s);
  with_head_size(s, [&]<int D>(std::integral_constant<int, D>) {
    if constexpr (std::is_same_v<T, bf16>)
      if (is_for_tensor_cores<T>(s, qkv, out))
        return with_dropout(mask, [&](auto drops) {
          for_heads(on, s, forward_cut<D>::rows, flash_threads, forward_shared<D>)(
              "flash_attention", flash_attention<D, drops>, qkv, s, mask, scale, out, log_sum_exp);
        });
    for_heads(on, s, tile, half * half, 2 * bytes_of_rows<D> + bytes_of_scores)("attention", detail::attention<D, T>,
                                                                                qkv, s, mask, scale, out, log_sum_exp);
  });
}

template<class T>
void attention_backward(cudaStream_t on, T const* qkv, T const* out, float const* log_sum_exp, T const* d_out,
                        attention_shape s, device_dropout const& mask, T* scratch, T* d_qkv) {
  using namespace detail;
  float const scale = scale_of(s);
  bool const in_place = d_qkv == qkv;
  auto const width = static_cast<std::size_t>(s.width);
  T* const dq = in_place ? scratch : d_qkv;
  std::size_t const stride = in_place ? width : 3 * width;
  with_head_size(s, [&]<int D>(std::integral_constant<int, D>) {
    if constexpr (std::is_same_v<T, bf16>)
      if (is_for_tensor_cores<T>(s, qkv, out, d_out, scratch, d_qkv))
        return with_dropout(mask, [&](auto drops) {
          auto* const sums = reinterpret_cast<query_sums*>(scratch + query_gradients(s));
          auto const start = [&]<class Cut>(Cut) {
            return for_heads(on, s, Cut::rows, flash_threads, flash_backward_room<D, Cut>::bytes);
          };
          start(queries_cut<D>())("flash_backward_queries", flash_backward_queries<D, drops>, qkv, out, log_sum_exp,
                                  d_out, s, mask, scale, sums, dq, stride);
          start(keys_cut<D>())("flash_backward_keys", flash_backward_keys<D, drops>, qkv, d_out, s, mask, scale, sums,
                               d_qkv);
        });
    auto const start = for_heads(on, s, tile, half * half, backward_tiles<D>::bytes);
    start("attention_backward_queries", attention_backward_queries<D, T>, qkv, out, log_sum_exp, d_out, s, mask, scale,
          dq, stride);
    start("attention_backward_keys", attention_backward_keys<D, T>, qkv, out, log_sum_exp, d_out, s, mask, scale,
          d_qkv);
  });
  if (in_place) copy_rows(on, scratch, width, static_cast<std::size_t>(s.rows()), width, d_qkv, 3 * width);
}

}  // namespace pipewright::inline v0::gpt2::cuda
