// SPDX-License-Identifier: Apache-2.0
#pragma once
// A device for machines without one, to torch's eyes like any: "far:0". Its tensors lie under addresses that no processor takes,
// so that whoever touches them by mistake crashes; kernels copy them here and back. Its streams and events only keep accounts.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>
#include <torch/types.h>

namespace far_device {

inline constexpr auto type = c10::DeviceType::PrivateUse1;

/// An address that cannot be used by mistake, and back.
inline void* tagged(void* address) {
  return address == nullptr
             ? nullptr
             : reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(address) ^ std::uintptr_t{1} << 63);
}

struct allocator final : c10::Allocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    void* const made = bytes == 0 ? nullptr : tagged(std::malloc(bytes));
    return {made, made, &give_back, c10::Device(type, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  static void give_back(void* at) { std::free(tagged(at)); }
  void copy_data(void* to, void const* from, std::size_t n) const override {
    std::memcpy(tagged(to), tagged(const_cast<void*>(from)), n);
  }
};
inline allocator& memory() {
  static allocator one;
  return one;
}

/// What streams and events were asked for.
inline std::atomic<int> records = 0, blocks_of_another_stream = 0;

struct guard final : c10::impl::DeviceGuardImplInterface {
  static inline thread_local c10::StreamId current = 0;

  c10::DeviceType type() const override { return far_device::type; }
  c10::Device exchangeDevice(c10::Device) const override { return getDevice(); }
  c10::Device getDevice() const override { return {far_device::type, 0}; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Stream getStream(c10::Device d) const override { return c10::Stream(c10::Stream::UNSAFE, d, current); }
  c10::Stream getDefaultStream(c10::Device d) const override { return c10::Stream(c10::Stream::UNSAFE, d, 0); }
  c10::Stream exchangeStream(c10::Stream s) const override {
    return c10::Stream(c10::Stream::UNSAFE, s.device(), std::exchange(current, s.id()));
  }
  void record(void** event, c10::Stream const& stream, c10::DeviceIndex, c10::EventFlag) const override {
    ++records;
    delete static_cast<c10::StreamId*>(*event);
    *event = new c10::StreamId(stream.id());
  }
  void block(void* event, c10::Stream const& stream) const override {
    blocks_of_another_stream += *static_cast<c10::StreamId*>(event) != stream.id();
  }
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    delete static_cast<c10::StreamId*>(event);
  }
};

struct hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  at::Generator const& getDefaultGenerator(c10::DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();  // kernels run on the host
  }
  void resizePrivateUse1Bytes(c10::Storage const& storage, std::size_t bytes) const override {
    at::native::resize_bytes_cpu(storage.unsafeGetStorageImpl(), bytes);
  }
};
inline bool const is_named = [] {
  c10::register_privateuse1_backend("far");
  static hooks one;
  at::RegisterPrivateUse1HooksInterface(&one);
  return true;
}();

/// The same numbers as a tensor of the host.
inline at::Tensor seen(at::Tensor const& t) {
  return t.is_cpu() ? t
                    : at::from_blob(tagged(const_cast<void*>(t.const_data_ptr())), t.sizes(), t.strides(),
                                    t.options().device(at::kCPU));
}
inline at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                        std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(sizes, &memory(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}
inline at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> dtype,
                                std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(
      sizes, strides, &memory(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype));
}
inline at::Tensor copy_from(at::Tensor const& from, at::Tensor const& to, bool) {
  at::Tensor there = seen(to);
  there.copy_(seen(from));
  return to;
}
inline at::Tensor copy_from_and_resize(at::Tensor const& from, at::Tensor const& to) {
  if (to.sizes() != from.sizes()) at::native::resize_(to, from.sizes());
  return copy_from(from, to, false);
}
inline at::Scalar number_of(at::Tensor const& t) { return seen(t).item(); }
inline at::Tensor& set_storage(at::Tensor& t, at::Storage of) {
  auto const n = static_cast<std::int64_t>(of.nbytes() / t.itemsize());
  return at::native::set_storage_cpu_(t, std::move(of), 0, {n}, {1});
}
inline bool may_hold(at::Tensor const&, at::Tensor const&) {
  return true;
}  // Module::to() lets a parameter hold another's data
inline void run_on_host(c10::OperatorHandle const& what, torch::jit::Stack* stack) {
  at::native::cpu_fallback(what, stack);
}

}  // namespace far_device

C10_REGISTER_GUARD_IMPL(PrivateUse1, far_device::guard)
TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&far_device::run_on_host>());
}
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &far_device::empty);
  m.impl("_has_compatible_shallow_copy_type", &far_device::may_hold);
  m.impl("empty_strided", &far_device::empty_strided);
  m.impl("_copy_from", &far_device::copy_from);
  m.impl("_copy_from_and_resize", &far_device::copy_from_and_resize);
  m.impl("_local_scalar_dense", &far_device::number_of);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("resize_", &at::native::resize_);
  m.impl("set_.source_Storage", &far_device::set_storage);
  m.impl("set_.source_Storage_storage_offset", &at::native::set_storage_cpu_);
}
