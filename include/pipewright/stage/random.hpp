// SPDX-License-Identifier: Apache-2.0
#pragma once
// Random numbers that are a function of where they are used, not of when: the same dropout masks
// under every schedule, every cut and every recomputation.
#include <array>
#include <cstdint>

namespace pipewright::inline v0 {

/// Philox-4x32-10: 128 random bits as a function of a 128-bit counter and a 64-bit key.
/// Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011).
[[nodiscard]] constexpr auto philox_4x32_10(std::array<std::uint32_t, 4> counter,
                                            std::array<std::uint32_t, 2> key) noexcept -> std::array<std::uint32_t, 4> {
  auto [c0, c1, c2, c3] = counter;
  auto [k0, k1] = key;
  for (int round = 0; round < 10; ++round) {
    auto const p0 = std::uint64_t{0xD2511F53} * c0;
    auto const p1 = std::uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(p1);
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(p0);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {c0, c1, c2, c3};
}

/// The random numbers of one place of use, addressed by element index. Made by keyed_random::at.
struct random_stream {
  std::array<std::uint32_t, 2> key{};
  std::array<std::uint32_t, 2> salt{};

  /// Elements 4 * block .. 4 * block + 3 at once; the cheap way to go through many.
  [[nodiscard]] constexpr auto four(std::uint64_t block) const noexcept -> std::array<std::uint32_t, 4> {
    return philox_4x32_10(
        {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), salt[0], salt[1]}, key);
  }
  /// 32 random bits for one element.
  [[nodiscard]] constexpr auto bits(std::uint64_t index) const noexcept -> std::uint32_t {
    return four(index / 4)[index % 4];
  }
  /// A uniform number in [0, 1), a multiple of 2^-24.
  [[nodiscard]] constexpr auto uniform(std::uint64_t index) const noexcept -> float {
    return static_cast<float>(bits(index) >> 8) * 0x1p-24f;
  }
};

/// Random numbers keyed by seed, step, micro-batch and layer. Equal keys give equal numbers on every rank;
/// `site` tells apart the uses within a layer. Holds no state: copies are free and calls are pure.
struct keyed_random {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  int micro_batch = 0;
  int layer = 0;

  /// The stream of one site. Costs one Philox block; hoist it out of loops.
  [[nodiscard]] constexpr auto at(std::uint32_t site) const noexcept -> random_stream {
    auto const mixed = philox_4x32_10({static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(step >> 32),
                                       static_cast<std::uint32_t>(micro_batch), static_cast<std::uint32_t>(layer)},
                                      {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
    return {.key = {mixed[0], mixed[1]}, .salt = {mixed[2], site}};
  }
  /// 32 random bits for one element of one site.
  [[nodiscard]] constexpr auto bits(std::uint32_t site, std::uint64_t index) const noexcept -> std::uint32_t {
    return at(site).bits(index);
  }
  /// A uniform number in [0, 1) for one element of one site.
  [[nodiscard]] constexpr auto uniform(std::uint32_t site, std::uint64_t index) const noexcept -> float {
    return at(site).uniform(index);
  }

  friend constexpr bool operator==(keyed_random const&, keyed_random const&) = default;
};

}  // namespace pipewright::inline v0
