// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numbers>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/stage/random.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0::gpt2 {

/// One tensor of a model: Hugging Face's name and layout, and how it starts.
struct parameter {
  std::string name;
  int rows = 1;  ///< 1 for a vector
  int columns = 0;
  float mean = 0.f;           ///< of the first values
  float deviation = 0.f;      ///< of the first values; 0 makes them all `mean`
  std::string drawn_as = {};  ///< starts with the values that the parameter of this name would have; empty: its own

  [[nodiscard]] auto size() const noexcept -> std::size_t {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
  }
  /// Matrices decay, biases and norms do not (nanoGPT's groups).
  [[nodiscard]] auto options() const noexcept -> parameter_options { return {.decay = rows > 1}; }
};

/// Draws a parameter's first values: normal, a function of seed and name only, so that no cut changes them.
inline void draw(parameter const& p, std::uint64_t seed, std::span<float> values) {
  auto hash = std::uint64_t{0xcbf29ce484222325};  // FNV-1a
  for (unsigned char const c : p.drawn_as.empty() ? p.name : p.drawn_as) hash = (hash ^ c) * 0x100000001b3;
  auto const stream = keyed_random{.seed = seed, .step = static_cast<std::int64_t>(hash)}.at(0);
  for (std::size_t i = 0; i < values.size(); i += 4) {
    auto const bits = stream.four(i / 4);
    for (std::size_t lane = 0; lane < 4 && i + lane < values.size(); ++lane) {
      // Box and Muller: each pair of uniforms gives a cosine and a sine.
      auto const radius = std::sqrt(-2. * std::log((bits[lane & 2] + 1.) * 0x1p-32));
      auto const angle = 2. * std::numbers::pi * bits[(lane & 2) + 1] * 0x1p-32;
      auto const normal = radius * (lane % 2 == 0 ? std::cos(angle) : std::sin(angle));
      values[i + lane] = p.deviation == 0.f ? p.mean : static_cast<float>(p.mean + p.deviation * normal);
    }
  }
}

/// The tensors of one layer in one run of memory: its weights, or its gradients. Copies are alike in layout.
/// A default-constructed one is empty.
template<class Backend>
class parameter_set {
 public:
  parameter_set() = default;
  explicit parameter_set(std::vector<parameter> parameters) {
    auto made = std::make_shared<layout>();
    std::size_t end = 0;
    for (auto const& p : parameters) {
      made->offsets.push_back(end);
      end += (p.size() + 15) / 16 * 16;  // each tensor starts on a cache line
    }
    made->parameters = std::move(parameters);
    layout_ = std::move(made);
    values_.resize(end);
  }

  /// First value of the tensor at `index` of the layer's list.
  [[nodiscard]] auto operator[](int index) noexcept -> float* { return values_.data() + layout_->offsets[index]; }
  [[nodiscard]] auto operator[](int index) const noexcept -> float const* {
    return values_.data() + layout_->offsets[index];
  }

  /// The layer's tensors, in order.
  [[nodiscard]] auto parameters() const noexcept -> std::span<parameter const> {
    return layout_ ? std::span<parameter const>(layout_->parameters) : std::span<parameter const>();
  }

  /// Calls visit(name, values, options) for each tensor, in order.
  template<class Visit>
  void for_each_parameter(Visit&& visit) {
    each(*this, visit);
  }
  template<class Visit>
  void for_each_parameter(Visit&& visit) const {
    each(*this, visit);
  }

  /// Gives every tensor its first values.
  void initialize(std::uint64_t seed) {
    std::vector<float> drawn;
    for (int i = 0; i < static_cast<int>(parameters().size()); ++i) {
      auto const& p = layout_->parameters[i];
      drawn.resize(p.size());
      draw(p, seed, drawn);
      Backend::upload(drawn.data(), drawn.size(), (*this)[i]);
    }
  }

 private:
  struct layout {
    std::vector<parameter> parameters;
    std::vector<std::size_t> offsets;
  };

  template<class Self, class Visit>
  static void each(Self& self, Visit& visit) {
    auto const all = self.parameters();
    for (int i = 0; i < static_cast<int>(all.size()); ++i) {
      visit(std::string_view(all[i].name), std::span(self[i], all[i].size()), all[i].options());
    }
  }

  std::shared_ptr<layout const> layout_;
  typename Backend::buffer values_;
};

}  // namespace pipewright::inline v0::gpt2
