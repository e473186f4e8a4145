// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstdint>
#include <set>
#include <vector>

#include <doctest/doctest.h>
#include <support/twice.hpp>

#include <pipewright/gpt2/dropout.hpp>
#include <pipewright/stage/random.hpp>

using pipewright::keyed_random;
using pipewright::philox_4x32_10;
using words = std::array<std::uint32_t, 4>;

TEST_CASE("Philox gives the known answers of Random123") {
  PIPEWRIGHT_TWICE(philox_4x32_10({0, 0, 0, 0}, {0, 0}) == words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  PIPEWRIGHT_TWICE(philox_4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
                   words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  PIPEWRIGHT_TWICE(philox_4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
                   words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("every part of the key and the place changes the bits") {
  constexpr auto base = keyed_random{.seed = 7, .step = 3, .micro_batch = 2, .layer = 1};
  std::set<std::uint32_t> seen;
  auto distinct = [&](keyed_random const& r, std::uint32_t site, std::uint64_t index) {
    return seen.insert(r.bits(site, index)).second;
  };
  CHECK(distinct(base, 0, 0));
  for (int bit = 0; bit < 63; ++bit) {
    auto r = base;
    r.seed ^= std::uint64_t{1} << bit;
    CHECK(distinct(r, 0, 0));
    r = base;
    r.step ^= std::int64_t{1} << bit;
    CHECK(distinct(r, 0, 0));
    CHECK(distinct(base, 0, std::uint64_t{1} << bit));
  }
  for (int bit = 0; bit < 31; ++bit) {
    auto r = base;
    r.micro_batch ^= 1 << bit;
    CHECK(distinct(r, 0, 0));
    r = base;
    r.layer ^= 1 << bit;
    CHECK(distinct(r, 0, 0));
    CHECK(distinct(base, std::uint32_t{1} << bit, 0));
  }
  CHECK(!distinct(base, 0, 0));
}

TEST_CASE("uniform numbers lie in [0, 1) with the right mean and variance") {
  auto const stream = keyed_random{.seed = 1}.at(4);
  auto sum = 0.;
  auto squares = 0.;
  constexpr auto count = 200'000;
  for (int i = 0; i < count; ++i) {
    auto const u = stream.uniform(static_cast<std::uint64_t>(i));
    REQUIRE(u >= 0.f);
    REQUIRE(u < 1.f);
    sum += u;
    squares += static_cast<double>(u) * u;
  }
  auto const mean = sum / count;
  CHECK(mean == doctest::Approx(0.5).epsilon(0.004));  // 3 standard errors
  CHECK(squares / count - mean * mean == doctest::Approx(1. / 12).epsilon(0.01));
}

TEST_CASE("a dropout mask is the same element by element and in runs from any start") {
  auto const mask = pipewright::gpt2::dropout{.stream = keyed_random{.seed = 5}.at(1), .probability = 0.3f};
  for (std::uint64_t const first : {0u, 1u, 2u, 3u, 4u, 17u}) {
    for (std::size_t const count : {0u, 1u, 2u, 5u, 16u, 33u}) {
      std::vector<float> factors(count, -1.f);
      mask.each(first, count, [&](std::size_t i, float f) { factors[i] = f; });
      for (std::size_t i = 0; i < count; ++i) CHECK(factors[i] == mask.factor(first + i));
    }
  }
  auto kept = 0;
  for (std::uint64_t i = 0; i < 100'000; ++i) {
    auto const f = mask.factor(i);
    REQUIRE((f == 0.f || f == 1.f / 0.7f));
    kept += f != 0.f;
  }
  CHECK(kept / 100'000. == doctest::Approx(0.7).epsilon(0.01));
}
