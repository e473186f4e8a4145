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
#include <type_traits>
#include <utility>
#include <vector>

#include <pipewright/stage/random.hpp>
#include <pipewright/stage/remote_parameter.hpp>
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
  /// What random numbers are keyed by, whatever the cut; of two that are to be one weight the same.
  [[nodiscard]] auto key() const noexcept -> std::uint64_t { return key_of(drawn_as.empty() ? name : drawn_as); }
  [[nodiscard]] static auto key_of(std::string_view name) noexcept -> std::uint64_t {
    auto hash = std::uint64_t{0xcbf29ce484222325};  // FNV-1a
    for (unsigned char const c : name) hash = (hash ^ c) * 0x100000001b3;
    return hash;
  }
  /// Matrices decay, biases and norms do not (nanoGPT's groups).
  [[nodiscard]] auto options() const noexcept -> parameter_options { return {.decay = rows > 1}; }
};

/// Draws a parameter's first values: normal, a function of seed and name only, so that no cut changes them.
inline void draw(parameter const& p, std::uint64_t seed, std::span<float> values) {
  auto const stream = keyed_random{.seed = seed, .step = static_cast<std::int64_t>(p.key())}.at(0);
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

/// The tensors of one layer: its weights, or its gradients, in a backend's weight_memory or gradient_memory. Copies are deep, and
/// alike in layout. A default-constructed one is empty.
template<class Memory>
class parameter_set {
 public:
  parameter_set() = default;
  explicit parameter_set(std::vector<parameter> parameters)
      : list_{std::make_shared<std::vector<parameter> const>(std::move(parameters))}, memory_(this->parameters()) {}
  /// Gradients of those weights: zeros.
  template<class Other>
  explicit parameter_set(parameter_set<Other> const& weights) : list_{weights.list()}, memory_(parameters()) {}

  /// First value of the tensor at `index` of the layer's list.
  [[nodiscard]] auto operator[](int index) noexcept { return memory_[index]; }
  [[nodiscard]] auto operator[](int index) const noexcept { return memory_[index]; }

  /// The layer's tensors, in order.
  [[nodiscard]] auto parameters() const noexcept -> std::span<parameter const> {
    return list_ ? std::span<parameter const>(*list_) : std::span<parameter const>();
  }
  [[nodiscard]] auto list() const noexcept -> std::shared_ptr<std::vector<parameter> const> const& { return list_; }

  /// Calls visit(name, values, options) for each tensor, in order.
  template<class Visit>
  void for_each_parameter(Visit&& visit) {
    each(*this, visit);
  }
  template<class Visit>
  void for_each_parameter(Visit&& visit) const {
    each(*this, visit);
  }

  /// Sets a tensor from the host's memory.
  void write(int index, std::span<float const> values) { memory_.write(index, values); }
  /// Gives every tensor its first values.
  void initialize(std::uint64_t seed) {
    std::vector<float> drawn;
    for (int i = 0; auto const& p : parameters()) {
      drawn.resize(p.size());
      draw(p, seed, drawn);
      write(i++, drawn);
    }
  }

 private:
  template<class Self, class Visit>
  static void each(Self& self, Visit& visit) {
    for (int i = 0; auto const& p : self.parameters()) {
      auto const values = self.memory_.view(i++);
      if constexpr (remote_parameter<std::remove_const_t<decltype(values)>>)
        visit_remote(visit, p.name, values, p.options());
      else visit(std::string_view(p.name), values, p.options());
    }
  }

  std::shared_ptr<std::vector<parameter> const> list_;
  Memory memory_;
};

}  // namespace pipewright::inline v0::gpt2
