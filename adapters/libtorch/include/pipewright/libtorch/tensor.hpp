// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <c10/core/ScalarType.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <pipewright/error.hpp>
#include <pipewright/transport/parts.hpp>
#include <pipewright/transport/value_shape.hpp>

namespace pipewright::inline v0::libtorch {

namespace detail {

/// The element type on a wire of torch's numbers; those that the wire has no name for are bytes.
inline element element_of_dtype(at::ScalarType type) {
  switch (type) {
    case at::kByte: return element::uint8;
    case at::kChar: return element::int8;
    case at::kShort: return element::int16;
    case at::kInt: return element::int32;
    case at::kLong: return element::int64;
    case at::kHalf: return element::float16;
    case at::kBFloat16: return element::bfloat16;
    case at::kFloat: return element::float32;
    case at::kDouble: return element::float64;
    default: return element::byte;
  }
}

}  // namespace detail

/// A tensor as a boundary: any dtype, shape and device, or none (undefined). A copy is a copy of the numbers; moving, and
/// converting from and to torch's own tensors, shares them. Its numbers lie in one contiguous run. Between ranks of one process it
/// stays on its device, where it is complete once the stream that made it has come so far (see `on`); between processes it
/// travels through the host's memory, where it then is.
class tensor {
 public:
  tensor() = default;
  tensor(at::Tensor const& shared)
      : value_{shared.defined() ? shared.detach().contiguous() : shared}, complete_{note_of(value_)} {}
  tensor(tensor const& other)
      : value_{other.value_.defined() ? other.on(other.value_.device()).clone() : other.value_},
        complete_{note_of(value_)} {}
  tensor(tensor&&) noexcept = default;
  tensor& operator=(tensor other) noexcept {
    value_ = std::move(other.value_);
    complete_ = std::move(other.complete_);
    return *this;
  }
  ~tensor() = default;

  /// The numbers on a device, for what this thread queues next on its current stream there.
  at::Tensor on(at::Device where) const {
    if (!value_.defined()) return value_;
    if (complete_) {
      c10::impl::VirtualGuardImpl const queues(value_.device().type());
      auto const here = queues.getStream(value_.device());
      complete_->block(here);
      queues.recordDataPtrOnStream(value_.storage().data_ptr(), here);  // its memory is not used again before
    }
    return value_.to(where);
  }

  operator at::Tensor const&() const noexcept { return value_; }
  at::Tensor const& operator*() const noexcept { return value_; }
  at::Tensor const* operator->() const noexcept { return &value_; }
  bool defined() const noexcept { return value_.defined(); }

  void for_each_part(auto&& visit) {
    if (!value_.defined() || value_.nbytes() == 0) return;
    auto const type = detail::element_of_dtype(value_.scalar_type());
    if constexpr (requires { requires std::remove_cvref_t<decltype(visit)>::only_counts; }) {
      visit(part{nullptr, value_.nbytes(), type});
    } else {
      if (!value_.is_cpu()) *this = tensor(on(at::kCPU));
      visit(part{value_.data_ptr(), value_.nbytes(), type});
    }
  }

  /// The dtype's number and the extents; nothing where it is undefined.
  std::vector<std::int64_t> shape() const {
    std::vector<std::int64_t> numbers;
    if (!value_.defined()) return numbers;
    numbers.push_back(static_cast<std::int64_t>(value_.scalar_type()));
    numbers.insert(numbers.end(), value_.sizes().begin(), value_.sizes().end());
    return numbers;
  }

  /// A tensor that may be written to: the memory is its own, so that nothing is received into what a graph may still read.
  void reshape(std::span<std::int64_t const> numbers) {
    complete_.reset();
    if (numbers.empty()) {
      value_.reset();
      return;
    }
    if (numbers[0] < 0 || numbers[0] >= static_cast<std::int64_t>(at::ScalarType::NumOptions))
      throw error("pipewright: a message names the dtype " + std::to_string(numbers[0]) +
                  ", which this LibTorch does not know; run all ranks with one version");
    auto const type = static_cast<at::ScalarType>(numbers[0]);
    at::IntArrayRef const sizes(numbers.data() + 1, numbers.size() - 1);
    if (value_.defined() && value_.use_count() == 1 && value_.storage().use_count() == 1 &&
        value_.scalar_type() == type && value_.sizes() == sizes && value_.is_cpu())
      return;
    value_ = at::empty(sizes, at::TensorOptions(type));
  }

 private:
  /// Of all that this thread has queued so far.
  static std::shared_ptr<c10::Event> note_of(at::Tensor const& made) {
    if (!made.defined() || made.is_cpu()) return nullptr;
    auto noted = std::make_shared<c10::Event>(made.device().type());
    noted->record(c10::impl::VirtualGuardImpl(made.device().type()).getStream(made.device()));
    return noted;
  }

  at::Tensor value_;
  std::shared_ptr<c10::Event> complete_;  // where a device has streams
};

static_assert(has_parts<tensor> && says_its_shape<tensor>);

}  // namespace pipewright::inline v0::libtorch
