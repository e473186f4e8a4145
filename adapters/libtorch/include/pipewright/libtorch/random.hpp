// SPDX-License-Identifier: Apache-2.0
#pragma once
// Random numbers of torch's modules that are a function of where they are used.

#include <cstddef>
#include <cstdint>
#include <mutex>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Generator.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <pipewright/error.hpp>
#include <pipewright/stage/context.hpp>

namespace pipewright::inline v0::libtorch {

namespace detail {

inline std::mutex& generator_mutex() {
  static std::mutex one;
  return one;
}

/// The context in which this thread runs a module; null outside of a stage.
inline stage_context const*& current_context() {
  static thread_local stage_context const* here = nullptr;
  return here;
}

}  // namespace detail

/// While it lives, torch's process-wide generator (of a device) is this thread's alone and starts at a seed; afterwards it goes
/// on as if nothing had been drawn. For modules that draw from it: make them, or run them, inside. Threads that do so wait
/// for one another; not recursive.
class seeded_generator {
 public:
  explicit seeded_generator(std::uint64_t seed, at::Device of = at::kCPU)
      : lock_{detail::generator_mutex()}, generator_{at::globalContext().defaultGenerator(of)} {
    std::lock_guard const theirs(generator_.mutex());
    before_ = generator_.get_state();
    generator_.set_current_seed(seed);
  }
  seeded_generator(seeded_generator const&) = delete;
  seeded_generator& operator=(seeded_generator const&) = delete;
  ~seeded_generator() {
    std::lock_guard const theirs(generator_.mutex());
    generator_.set_state(before_);
  }

 private:
  std::scoped_lock<std::mutex> lock_;
  at::Generator generator_;
  at::Tensor before_;
};

namespace detail {

/// x with the elements dropped that a stream's bits say, the others scaled. The mask is a function of the stream, so that
/// backward makes it again and nothing stores it.
struct keyed_dropout_function : torch::autograd::Function<keyed_dropout_function> {
  static at::Tensor masked(at::Tensor const& x, random_stream const& stream, double probability) {
    auto const from = x.contiguous();
    auto mask = at::empty(from.sizes(), at::TensorOptions(at::kFloat));
    float* const factor = mask.mutable_data_ptr<float>();
    auto const count = static_cast<std::size_t>(mask.numel());
    float const kept = 1.f / (1.f - static_cast<float>(probability));
    auto const threshold = static_cast<std::uint32_t>(probability * 0x1p32);
    for (std::size_t i = 0; i < count; i += 4) {
      auto const bits = stream.four(i / 4);
      for (std::size_t lane = 0; lane < 4 && i + lane < count; ++lane)
        factor[i + lane] = bits[lane] < threshold ? 0.f : kept;
    }
    return from * mask.to(from.options());
  }
  static at::Tensor forward(torch::autograd::AutogradContext* context, at::Tensor const& x, random_stream stream,
                            double probability) {
    context->saved_data["key"] = static_cast<std::int64_t>(std::uint64_t{stream.key[1]} << 32 | stream.key[0]);
    context->saved_data["salt"] = static_cast<std::int64_t>(std::uint64_t{stream.salt[1]} << 32 | stream.salt[0]);
    context->saved_data["probability"] = probability;
    return masked(x, stream, probability);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    auto const two = [&](char const* name) {
      auto const bits = static_cast<std::uint64_t>(context->saved_data[name].toInt());
      return std::array{static_cast<std::uint32_t>(bits), static_cast<std::uint32_t>(bits >> 32)};
    };
    random_stream const stream{.key = two("key"), .salt = two("salt")};
    return {masked(gradients[0], stream, context->saved_data["probability"].toDouble()), {}, {}};
  }
};

}  // namespace detail

/// Dropout whose mask is keyed by (seed, step, micro-batch, layer) of the stage that runs the module, and by `site`, which tells
/// apart the uses within a layer: the same mask under every schedule, cut and recomputation. Nothing in evaluation.
inline at::Tensor keyed_dropout(at::Tensor const& x, std::uint32_t site, double probability) {
  if (probability == 0) return x;
  stage_context const* const context = detail::current_context();
  if (context == nullptr)
    throw error("keyed dropout is keyed by the step and the micro-batch of a stage, and runs inside of one only");
  if (!context->training) return x;
  return detail::keyed_dropout_function::apply(x, context->random().at(site), probability);
}

}  // namespace pipewright::inline v0::libtorch
