// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>

#include <pipewright/stage/random.hpp>

namespace pipewright::inline v0::gpt2 {

/// The places of dropout within a layer: the `site` of their keyed random numbers.
enum class dropout_site : std::uint32_t { embedding, attention, attention_projection, mlp_projection };

/// Inverted dropout with a keyed mask: an element is kept with probability 1 - p and then scaled by 1 / (1 - p).
/// The mask is a function of the key, so forward, backward and recomputation regenerate it and nothing stores it.
struct dropout {
  random_stream stream{};
  float probability = 0.f;

  /// Whether there is anything to drop.
  [[nodiscard]] constexpr explicit operator bool() const noexcept { return probability > 0.f; }

  /// The factor of one kept element.
  [[nodiscard]] constexpr auto scale() const noexcept -> float { return 1.f / (1.f - probability); }

  /// The number below which 32 random bits drop an element.
  [[nodiscard]] constexpr auto threshold() const noexcept -> std::uint32_t {
    return static_cast<std::uint32_t>(static_cast<double>(probability) * 0x1p32);
  }

  /// 0 or scale(): what element `index` is multiplied by.
  [[nodiscard]] constexpr auto factor(std::uint64_t index) const noexcept -> float {
    return stream.bits(index) < threshold() ? 0.f : scale();
  }

  /// Calls use(i, factor(first + i)) for i in 0 .. count - 1; a random block serves four neighbours.
  template<class Use>
  constexpr void each(std::uint64_t first, std::size_t count, Use use) const {
    auto const kept = scale();
    auto const limit = threshold();
    for (std::size_t i = 0; i < count;) {
      auto const block = stream.four((first + i) / 4);
      for (auto lane = (first + i) % 4; lane < 4 && i < count; ++lane, ++i) use(i, block[lane] < limit ? 0.f : kept);
    }
  }
};

/// The dropout of one site by its key, as stages hand it to operations: some backends want the key's parts in place of the stream.
struct keyed_dropout {
  keyed_random random{};
  dropout_site site{};
  float probability = 0.f;

  /// Whether there is anything to drop.
  [[nodiscard]] constexpr explicit operator bool() const noexcept { return probability > 0.f; }

  /// With the key's stream, which costs one Philox block.
  [[nodiscard]] constexpr operator dropout() const noexcept {
    if (!*this) return {};
    return {.stream = random.at(static_cast<std::uint32_t>(site)), .probability = probability};
  }
};

/// The dropout of one site of the layer that `context` is in; none in evaluation.
[[nodiscard]] constexpr auto make_dropout(auto const& context, dropout_site site, float probability) -> keyed_dropout {
  if (!context.training || probability == 0.f) return {};
  return {.random = context.random(), .site = site, .probability = probability};
}

}  // namespace pipewright::inline v0::gpt2
