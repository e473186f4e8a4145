// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <pipewright/gpt2/host/buffer.hpp>
#include <pipewright/gpt2/parameters.hpp>

namespace pipewright::inline v0::gpt2::host {

/// A layer's tensors in one run of memory, each from a cache line's beginning: weights, or gradients.
class parameter_memory {
 public:
  parameter_memory() = default;
  explicit parameter_memory(std::span<parameter const> parameters) {
    std::size_t end = 0;
    for (auto const& p : parameters) {
      sizes_.push_back(p.size());
      offsets_.push_back(end);
      end += (p.size() + 15) / 16 * 16;
    }
    numbers_.resize(end);
  }

  [[nodiscard]] auto operator[](int i) noexcept -> float* { return numbers_.data() + offsets_[at(i)]; }
  [[nodiscard]] auto operator[](int i) const noexcept -> float const* { return numbers_.data() + offsets_[at(i)]; }
  [[nodiscard]] auto view(int i) -> std::span<float> { return {(*this)[i], sizes_[at(i)]}; }
  [[nodiscard]] auto view(int i) const -> std::span<float const> { return {(*this)[i], sizes_[at(i)]}; }
  void write(int i, std::span<float const> from) { std::ranges::copy(from, (*this)[i]); }

 private:
  static constexpr auto at(int i) noexcept -> std::size_t { return static_cast<std::size_t>(i); }

  std::vector<std::size_t> sizes_, offsets_;
  buffer numbers_;
};

}  // namespace pipewright::inline v0::gpt2::host
