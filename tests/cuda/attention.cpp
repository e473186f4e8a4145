// SPDX-License-Identifier: Apache-2.0
// Attention on tensor cores against the host backend, as kernels.cpp has the other kernels; and the instructions that
// the stand-in (on_host/tensor_core_on_host.h) has for it, against plain products.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/gpt2/host/attention.hpp>
#include <pipewright/gpt2_cuda/attention.cuh>

#include "kernel_testing.hpp"

namespace {

using namespace kernel_testing;
namespace gpt2 = pipewright::gpt2;
namespace host = pipewright::gpt2::host;
namespace tensor_core = pipewright::gpt2::cuda::tensor_core;

using cuda::bf16;
using vector = device_vector<bf16>;

std::mt19937 engine(7);

std::vector<bf16> drawn(std::size_t n) { return kernel_testing::drawn<bf16>(engine, n); }

__device__ __host__ std::uint32_t two_of(bf16 first, bf16 second) {
  bf16 const two[]{first, second};
  std::uint32_t made;
  memcpy(&made, two, sizeof made);
  return made;
}

/// c = a b, row-major, the fragments as the PTX ISA numbers their elements.
__global__ void one_product(bf16 const* a, bf16 const* b, float* c) {
  int const lane = static_cast<int>(threadIdx.x), group = lane >> 2, in_group = lane % 4;
  bf16 of_a[8], of_b[4];
  for (int i = 0; i < 8; ++i) {
    int const row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
    of_a[i] = a[16 * row + in_group * 2 + (i & 1) + (i < 4 ? 0 : 8)];
  }
  for (int i = 0; i < 4; ++i) of_b[i] = b[8 * (in_group * 2 + (i & 1) + (i < 2 ? 0 : 8)) + group];
  tensor_core::left left;
  for (int i = 0; i < 4; ++i) left.numbers[i] = two_of(of_a[2 * i], of_a[2 * i + 1]);
  auto const sums = multiply_add(left, two_of(of_b[0], of_b[1]), two_of(of_b[2], of_b[3]), {{1, 2, 3, 4}});
  for (int i = 0; i < 4; ++i) c[8 * (i < 2 ? group : group + 8) + in_group * 2 + (i & 1)] = sums.numbers[i];
}

/// What lanes have of four matrices that lie below one another in `from`.
__global__ void four_matrices(bf16 const* from, std::uint32_t* plain, std::uint32_t* transposed) {
  auto* const room = cuda::shared_memory<bf16>();
  tensor_core::copy_async<16>(room + 8 * threadIdx.x, from + 8 * threadIdx.x, true);
  tensor_core::close_copies();
  tensor_core::wait_for_copies<0>();
  __syncwarp();
  auto const a = tensor_core::load_matrices(tensor_core::address_of(room + 8 * threadIdx.x));
  auto const b = tensor_core::load_transposed(tensor_core::address_of(room + 8 * threadIdx.x));
  for (unsigned m = 0; m < 4; ++m) {
    plain[32 * m + threadIdx.x] = a.numbers[m];
    transposed[32 * m + threadIdx.x] = b.numbers[m];
  }
}

/// c = a b^T and d = c b, of 16 and of 32 rows of D numbers, of which `size` are there, and 30 of the rows; c is
/// rounded.
template<int D> __global__ void two_products(bf16 const* a, bf16 const* b, int size, float* c, bf16* d) {
  using namespace cuda::detail;
  flash_rows<D> const of_a{cuda::shared_memory<bf16>()}, of_b{of_a.at + 64 * D};
  of_a.template fetch<16>(a, static_cast<std::size_t>(size), 0, 16, size);
  of_b.template fetch<32>(b, static_cast<std::size_t>(size), 0, 30, size);
  tensor_core::close_copies();
  tensor_core::wait_for_copies<0>();
  __syncthreads();
  lane_at const l;
  if (l.warp != 0) return;
  left fragments[1][D / 16], weights[1][2];
  load_left(fragments, of_a, 0);
  sums of_c[1][4], of_d[1][D / 8]{};
  multiply_rows(of_c, fragments, of_b, 0);
  for (int n = 0; n < 4; ++n)
    for (int i = 0; i < 4; ++i) c[32 * (l.g + i / 2 * 8) + 8 * n + 2 * l.t + i % 2] = of_c[0][n].numbers[i];
  round_to_left(of_c, weights);
  add_weighted_rows(of_d, weights, of_b, 0);
  write_sums(of_d, of_a, 0, d, static_cast<std::size_t>(size), 0, 16, size);
}

/// row-major: a is m x k, b is k x n.
numbers product(numbers const& a, numbers const& b, std::size_t m, std::size_t k, std::size_t n) {
  numbers c(m * n);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t l = 0; l < k; ++l) c[i * n + j] += a[i * k + l] * b[l * n + j];
  return c;
}
numbers transposed(numbers const& a, std::size_t rows, std::size_t columns) {
  numbers to(a.size());
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < columns; ++j) to[j * rows + i] = a[i * columns + j];
  return to;
}

template<int D> void check_two_products(int size) {
  CAPTURE(size);
  auto const columns = static_cast<std::size_t>(size);
  auto const a = drawn(16 * columns);
  auto b = drawn(30 * columns);
  vector const given_a(a), given_b(b);
  auto const [c, d] = in_every_order([&] {
    auto to_c = poisoned<float>(16 * 32);
    auto to_d = poisoned<bf16>(16 * columns);
    cuda::launch{nullptr, 1, 128, 2 * 96 * D}("two_products", two_products<D>, given_a.data(), given_b.data(), size,
                                              to_c.data(), to_d.data());
    return std::tuple(to_c, to_d);
  });
  b.resize(32 * columns, cuda::narrow<bf16>(0.f));
  auto expected = product(wide(a), transposed(wide(b), 32, columns), 16, columns, 32);
  CHECK(difference(c, expected) < 1e-6);
  for (auto& v : expected) v = cuda::wide(cuda::narrow<bf16>(v));
  CHECK(difference(d, product(expected, wide(b), 16, 32, columns)) < 3e-3);
}

}  // namespace

TEST_CASE("a product of fragments") {
  auto const a = drawn(16 * 16), b = drawn(16 * 8);
  vector const given_a(a), given_b(b);
  auto const [c] = in_every_order([&] {
    auto to = poisoned<float>(16 * 8);
    cuda::launch{nullptr, 1, 32}("one_product", one_product, given_a.data(), given_b.data(), to.data());
    return std::tuple(to);
  });
  auto expected = product(wide(a), wide(b), 16, 16, 8);
  for (std::size_t i = 0; i < expected.size(); ++i)
    expected[i] += 1.f + static_cast<float>(i % 2) + (i >= 64 ? 2.f : 0.f);
  CHECK(difference(c, expected) < 1e-6);
}

TEST_CASE("matrices from shared memory") {
  auto const from = drawn(4 * 64);
  vector const given(from);
  auto const [plain, turned] = in_every_order([&] {
    device_vector<std::uint32_t> a(std::vector<std::uint32_t>(128)), b(a);
    cuda::launch{nullptr, 1, 32, 512}("four_matrices", four_matrices, given.data(), a.data(), b.data());
    return std::tuple(a, b);
  });
  for (std::size_t m = 0; m < 4; ++m)
    for (std::size_t lane = 0; lane < 32; ++lane) {
      std::size_t const at = 64 * m, row = lane / 4, column = lane % 4 * 2;
      CHECK(plain[32 * m + lane] == two_of(from[at + 8 * row + column], from[at + 8 * row + column + 1]));
      CHECK(turned[32 * m + lane] == two_of(from[at + 8 * column + row], from[at + 8 * (column + 1) + row]));
    }
}

TEST_CASE("products with rows of a head") {
  check_two_products<16>(8);
  check_two_products<16>(16);
  check_two_products<32>(32);
  check_two_products<64>(40);
  check_two_products<64>(64);
  check_two_products<128>(128);
}

TEST_CASE("attention on tensor cores and its backward, in place and apart") {
  struct one {
    gpt2::attention_shape shape;
    float probability;
  };
  std::vector<one> all{{{2, 40, 2, 48}, 0.2f}, {{2, 100, 2, 80}, 0.f}, {{1, 300, 1, 64}, 0.1f}};
  for (int const length : {1, 7, 64, 65, 130, 200})
    for (int const heads : {1, 3})
      for (int const size : {16, 32, 64, 128})
        for (float const p : {0.f, 0.2f}) all.push_back({{1, length, heads, heads * size}, p});
  for (auto const& each : all) {
    auto const s = each.shape;
    CAPTURE(s.length);
    CAPTURE(s.heads);
    CAPTURE(s.head_size());
    CAPTURE(each.probability);
    auto const mask = mask_of(each.probability);
    auto const rows = static_cast<std::size_t>(s.rows()), width = static_cast<std::size_t>(s.width);
    auto const queries = rows * static_cast<std::size_t>(s.heads);
    auto const qkv = drawn(3 * rows * width), gradient = drawn(rows * width);
    vector const given_qkv(qkv), given_gradient(gradient);
    REQUIRE(cuda::detail::is_for_tensor_cores<bf16>(s, given_qkv.data(), given_gradient.data()));
    numbers out(rows * width), level(queries), d_qkv(3 * rows * width), scratch(host::attention_scratch(s));
    host::attention(wide(qkv).data(), s, mask, scratch.data(), out.data(), level.data());
    auto const [got, got_level] = in_every_order([&] {
      auto to = poisoned<bf16>(out.size());
      auto l = poisoned<float>(queries);
      cuda::attention(nullptr, given_qkv.data(), s, mask, to.data(), l.data());
      return std::tuple(to, l);
    });
    CHECK(difference(got, out) < 1e-2);
    CHECK(difference(got_level, level) < 1e-5);
    vector const given(got);
    device_vector<float> const given_level(got_level);
    host::attention_backward(wide(qkv).data(), wide(got).data(), level.data(), wide(gradient).data(), s, mask,
                             scratch.data(), d_qkv.data());
    auto const backward = [&](bf16 const* from, bf16* to) {
      auto room = poisoned<bf16>(cuda::attention_scratch(s));
      cuda::attention_backward(nullptr, from, given.data(), given_level.data(), given_gradient.data(), s, mask,
                               room.data(), to);
    };
    auto const [in_place] = in_every_order([&] {
      auto to = given_qkv;
      backward(to.data(), to.data());
      return std::tuple(to);
    });
    auto apart = poisoned<bf16>(d_qkv.size());
    backward(given_qkv.data(), apart.data());
    CHECK(same_bits(apart.on_host(), in_place));
    // each of the three alone: where there is one key, queries and keys have no gradients
    for (std::size_t which = s.length > 1 ? 0 : 2; which < 3; ++which) {
      numbers found, expected;
      for (std::size_t i = 0; i < d_qkv.size(); ++i)
        if (i / width % 3 == which) found.push_back(cuda::wide(in_place[i])), expected.push_back(d_qkv[i]);
      CAPTURE(which);
      CHECK(difference(found, expected) < 1e-2);
    }
  }
}

TEST_CASE("heads that tensor cores cannot have, and numbers that lie amiss") {
  gpt2::attention_shape const s{1, 40, 2, 24};
  auto const qkv = drawn(3 * 40 * 24 + 1);
  vector const given(qkv);
  numbers out(40 * 24), level(80), scratch(host::attention_scratch(s));
  CHECK_FALSE(cuda::detail::is_for_tensor_cores<bf16>(s, given.data()));
  CHECK_FALSE(cuda::detail::is_for_tensor_cores<bf16>({1, 40, 3, 24}, given.data() + 1));
  CHECK_FALSE(cuda::detail::is_for_tensor_cores<float>({1, 40, 3, 24}, out.data()));
  for (gpt2::attention_shape const each : {s, gpt2::attention_shape{1, 40, 3, 24}}) {
    auto const whole = wide(qkv);
    host::attention(whole.data() + 1, each, {}, scratch.data(), out.data(), numbers(120).data());
    auto to = poisoned<bf16>(out.size());
    auto level_of = poisoned<float>(120);
    cuda::attention(nullptr, given.data() + 1, each, {}, to.data(), level_of.data());
    CHECK(difference(to, out) < 1e-2);
  }
}
