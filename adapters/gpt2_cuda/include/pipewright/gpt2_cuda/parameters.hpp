// SPDX-License-Identifier: Apache-2.0
#pragma once
// A layer's weights and gradients on the device, and how the engine and its optimizers work on them there.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <pipewright/cuda/constants.hpp>
#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/memory.hpp>
#include <pipewright/gpt2/parameters.hpp>
#include <pipewright/gpt2_cuda/late_sums.hpp>
#include <pipewright/gpt2_cuda/operations.hpp>
#include <pipewright/stage/remote_parameter.hpp>

namespace pipewright::inline v0::gpt2::cuda {

using pipewright::cuda::buffer;
using pipewright::cuda::context;

/// Room for what a kernel leaves for the next one, apart from what stages ask for: `context.kept<small_room>()`.
struct small_room : pipewright::cuda::scratch {
  using scratch::scratch;
};

/// Of a stage's gradients: `context.kept<late_squares>()`.
struct late_squares : late_sums {
  using late_sums::late_sums;
};

/// Where a tensor's fp32 numbers are, and the bf16 ones that stages compute with, which follow them; null where there are none.
struct place {
  float* numbers;
  bf16* rounded;
  std::size_t size;
  std::uint64_t key;  ///< of the random numbers by which they are rounded
};

/// A weight, a gradient or an optimizer's state on the device: what the engine works with. Its address is a place's.
class parameter_view {
 public:
  using element = float;

  explicit parameter_view(void* address) : at_{static_cast<place*>(address)} {}
  void* address() const { return at_; }
  std::size_t size() const { return at_->size; }
  std::size_t bytes() const { return at_->size * (sizeof(float) + (at_->rounded != nullptr ? sizeof(bf16) : 0)); }
  place const& operator*() const { return *at_; }

  void clear() {
    pipewright::cuda::queue_zeros(stream(), at_->numbers, at_->size);
    round();
  }
  /// Waits for the device.
  double squares() const { return squares_later(0).get(); }
  late_number& squares_later(std::size_t place) const {
    auto& here = context::here();
    auto& late = here.kept<late_squares>().of(place);
    sum<true>(here.stream(), at_->numbers, at_->size, here.kept<small_room>().room<float>(most_shares),
              late.on_device());
    late.come();
    return late;
  }
  void copy_from(parameter_view other) {
    pipewright::cuda::queue_copy(stream(), other.at_->numbers, at_->size, at_->numbers);
    if (at_->rounded != nullptr) pipewright::cuda::queue_copy(stream(), other.at_->rounded, at_->size, at_->rounded);
  }
  void sum_with(parameter_view other) {
    accumulate(stream(), other.at_->numbers, at_->size, at_->numbers);
    other.copy_from(*this);
  }
  void read(std::span<float> to) const { pipewright::cuda::download<float>(at_->numbers, to); }
  void write(std::span<float const> from) {
    pipewright::cuda::upload<float>(from, at_->numbers);
    round();
  }
  std::shared_ptr<void> like() const {
    struct owned : place {
      buffer<float> memory;
      explicit owned(std::size_t n) : memory(n) {
        numbers = memory.data();
        rounded = nullptr;
        size = n;
        key = 0;
      }
    };
    auto made = std::make_shared<owned>(at_->size);
    place* const as_place = made.get();
    return {std::move(made), as_place};
  }

  /// The bf16 numbers from the fp32 ones, where there are any.
  void round() {
    if (at_->rounded != nullptr) round_stochastically(stream(), at_->numbers, at_->size, at_->key, at_->rounded);
  }
  static cudaStream_t stream() { return context::here().stream(); }

 private:
  place* at_;
};
static_assert(remote_parameter<parameter_view>);

namespace detail {
template<class T> T const* on_device(T const& terms) {
  return context::here().kept<pipewright::cuda::constants>().place(terms);
}
}  // namespace detail

/// sgd::update on the device; not that of a class derived from it, which may be another.
template<std::same_as<sgd> Optimizer>
void update_remote(Optimizer const& by, optimizer_step step, parameter_options options, parameter_view newest,
                   parameter_view gradient, parameter_view fresh, std::array<parameter_view, 1> states) {
  sgd_update(parameter_view::stream(), detail::on_device(by.template terms_of<float>(step, options)), (*newest).numbers,
             (*gradient).numbers, newest.size(), (*fresh).numbers, (*states[0]).numbers);
  fresh.round();
}

/// adam::update on the device, likewise.
template<std::same_as<adam> Optimizer>
void update_remote(Optimizer const& by, optimizer_step step, parameter_options options, parameter_view newest,
                   parameter_view gradient, parameter_view fresh, std::array<parameter_view, 2> states) {
  if (options.frozen) return fresh.copy_from(newest);
  adam_update(parameter_view::stream(), detail::on_device(by.template terms_of<float>(step, options)),
              (*newest).numbers, (*gradient).numbers, newest.size(), (*fresh).numbers, (*states[0]).numbers,
              (*states[1]).numbers);
  fresh.round();
}

/// Rows of a matrix with those of zeros below it.
constexpr int padded_rows(int rows) { return (rows + 63) / 64 * 64; }

/// A layer's tensors in one run of device memory, each from a multiple of 256 bytes, matrices with padded_rows: fp32 numbers, and for weights that stages read
/// as bf16 those beside them (master weights: 6 bytes each). Gradients are fp32 always: `parameter_memory<float>`. Copies are deep.
template<number T> class parameter_memory {
  static constexpr bool rounds = !std::is_same_v<T, float>;

 public:
  parameter_memory() = default;
  explicit parameter_memory(std::span<gpt2::parameter const> parameters) {
    std::size_t end = 0;
    for (auto const& p : parameters) {
      offsets_.push_back(end);
      places_.push_back({nullptr, nullptr, p.size(), p.key()});
      auto const room =
          static_cast<std::size_t>(p.rows > 1 ? padded_rows(p.rows) : 1) * static_cast<std::size_t>(p.columns);
      end += (room + 127) / 128 * 128;
    }
    numbers_ = buffer<float>(end);
    if constexpr (rounds) rounded_ = buffer<T>(end);
    point();
  }
  parameter_memory(parameter_memory const& other)
      : offsets_{other.offsets_}, places_{other.places_}, numbers_{other.numbers_}, rounded_{other.rounded_} {
    point();
  }
  parameter_memory(parameter_memory&&) noexcept = default;
  parameter_memory& operator=(parameter_memory other) noexcept {
    std::swap(offsets_, other.offsets_);
    std::swap(places_, other.places_);
    std::swap(numbers_, other.numbers_);
    std::swap(rounded_, other.rounded_);
    return *this;
  }
  ~parameter_memory() = default;

  T* operator[](int i) noexcept { return first() + offsets_[static_cast<std::size_t>(i)]; }
  T const* operator[](int i) const noexcept { return first() + offsets_[static_cast<std::size_t>(i)]; }
  parameter_view view(int i) const { return parameter_view(const_cast<place*>(&places_[static_cast<std::size_t>(i)])); }
  void write(int i, std::span<float const> from) { view(i).write(from); }

 private:
  T* first() const noexcept {
    if constexpr (rounds) return const_cast<T*>(rounded_.data());
    else return const_cast<T*>(numbers_.data());
  }
  void point() {
    for (std::size_t i = 0; i < places_.size(); ++i) {
      places_[i].numbers = numbers_.data() + offsets_[i];
      if constexpr (rounds) places_[i].rounded = rounded_.data() + offsets_[i];
    }
  }

  std::vector<std::size_t> offsets_;
  std::vector<place> places_;  // stay where they are when this is moved
  buffer<float> numbers_;
  buffer<T> rounded_;
};

}  // namespace pipewright::inline v0::gpt2::cuda
