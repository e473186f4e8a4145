// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <c10/util/Exception.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/rnn.h>

#include <pipewright/libtorch/loss_scaler.hpp>
#include <pipewright/libtorch/parameters.hpp>
#include <pipewright/libtorch/random.hpp>
#include <pipewright/libtorch/split_graph.hpp>
#include <pipewright/libtorch/tensor.hpp>

namespace pipewright::inline v0::libtorch {

/// What an input tensor has to be.
struct expected_tensor {
  std::optional<at::ScalarType> dtype = {};
  std::optional<std::vector<std::int64_t>> sizes = {};  ///< -1: any extent
};

/// What a stage made of a module may be told. All of it may be left out.
struct module_options {
  /// Stands before the module's own names, so that they are the model's: "h.3.".
  std::string prefix = {};
  /// What an optimizer may do; else matrices decay, vectors do not, and what requires no gradient is frozen.
  std::function<parameter_options(std::string_view name, at::Tensor const&)> options_of = {};
  /// Gives a parameter its first values; else they are the module's own.
  std::function<void(stage_context const&, std::string_view name, at::Tensor&)> initialize = {};
  /// What the input's tensors have to be, in order; not checked where empty.
  std::vector<expected_tensor> inputs = {};
  /// Whether forward draws from torch's process-wide generator, which is then seeded for each micro-batch and this thread's
  /// alone (ranks that are threads wait for one another). Else: whether there is a dropout among the modules.
  std::optional<bool> draws = {};
  /// Where the input is brought to; else where the parameters are, and without any it stays where it is.
  std::optional<at::Device> device = {};
  /// Of this rank; where gradients are in half precision.
  std::shared_ptr<loss_scaler const> scaler = {};
};

namespace detail {

/// A tensor's dtype and extents for sentences: Float [2, 3].
inline std::string described(at::ScalarType dtype, at::IntArrayRef sizes) {
  std::string text = std::string(c10::toString(dtype)) + " [";
  for (std::size_t i = 0; i < sizes.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(sizes[i]);
  return text + "]";
}
inline std::string described(at::Tensor const& t) {
  return t.defined() ? described(t.scalar_type(), t.sizes()) : "nothing";
}
inline std::string described(expected_tensor const& e) {
  std::string text = e.dtype ? c10::toString(*e.dtype) : "any dtype";
  if (!e.sizes) return text + " of any shape";
  text += " [";
  for (std::size_t i = 0; i < e.sizes->size(); ++i)
    text += (i == 0 ? "" : ", ") + ((*e.sizes)[i] < 0 ? "*" : std::to_string((*e.sizes)[i]));
  return text + "]";
}
inline bool is_as_expected(at::Tensor const& t, expected_tensor const& e) {
  if (!t.defined() || (e.dtype && *e.dtype != t.scalar_type())) return false;
  if (!e.sizes) return true;
  if (static_cast<std::int64_t>(e.sizes->size()) != t.dim()) return false;
  for (std::int64_t i = 0; i < t.dim(); ++i)
    if (auto const want = (*e.sizes)[static_cast<std::size_t>(i)]; want >= 0 && want != t.size(i)) return false;
  return true;
}

/// A graph from forward to backward, or to the end of its second half. What forward gave is not kept, unless the graph needs it.
struct module_run {
  std::vector<at::Tensor> inputs;   ///< what the module was given, in order
  std::vector<graph_root> outputs;  ///< where the graph of each thing that it gave begins
  split_graph split;

  /// At their first use. Whatever they held.
  void clear() {
    inputs.clear();
    outputs.clear();
  }
};

/// Whether a forward is for a backward.
inline bool makes_graph(stage_context const& context) { return context.training && context.saves; }

/// All of a stage that does not depend on its boundaries: the module, its parameters, its graph.
class module_runner {
  /// torch's errors as ours, without their traces.
  static auto translated(auto&& f) {
    try {
      return f();
    } catch (c10::Error const& fault) {
      throw error(std::string("LibTorch: ") + fault.what_without_backtrace());
    }
  }

 public:
  module_runner(std::shared_ptr<torch::nn::Module> module, module_options options)
      : module_{std::move(module)}, options_{std::move(options)}, device_{options_.device} {
    auto list = std::make_shared<parameter_list>();
    for (auto const& each : module_->named_parameters()) {
      at::Tensor const& p = each.value();
      auto name = options_.prefix + each.key();
      if (!at::isFloatingType(p.scalar_type()))
        throw error("parameter " + name + " is " + c10::toString(p.scalar_type()) +
                    "; a stage's parameters are floating-point numbers");
      if (!device_ || (!device_->has_index() && device_->type() == p.device().type())) device_ = p.device();
      if (p.device() != *device_)
        throw error("parameter " + name + " is on " + p.device().str() + ", but " +
                    (options_.device ? "module_options::device is " : "others are on ") + device_->str() +
                    "; a stage has one device");
      auto decided =
          options_.options_of ? options_.options_of(name, p) : parameter_options{.decay = p.dim() > 1, .frozen = false};
      decided.frozen = decided.frozen || !p.requires_grad();
      if (!decided.frozen) learning_.push_back(list->size());
      list->names.push_back(std::move(name));
      list->parameters.push_back(p);
      list->options.push_back(decided);
    }
    list_ = std::move(list);
    draws_ = options_.draws.value_or(has_dropout());
  }

  parameter_values initial(stage_context const& context) const {
    parameter_values made(list_);
    if (options_.initialize) {
      torch::NoGradGuard const no_graph;
      for (std::size_t i = 0; i < made.size(); ++i) {
        auto values = made[i];
        options_.initialize(context, list_->names[i], values);
      }
    }
    return made;
  }

  /// Throws where an input is not what was to be expected.
  void check_inputs(std::vector<at::Tensor> const& inputs) const {
    if (options_.inputs.empty()) return;
    if (inputs.size() != options_.inputs.size())
      throw error("the input has " + std::to_string(inputs.size()) + " tensors, but the stage takes " +
                  std::to_string(options_.inputs.size()) + "; check what the stage before gives");
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (!is_as_expected(inputs[i], options_.inputs[i]))
        throw error("input tensor " + std::to_string(i) + " is " + described(inputs[i]) + ", but the stage takes " +
                    described(options_.inputs[i]) + "; check what the stage before gives");
  }

  /// A forward: calls f() with the module set up for that micro-batch and those weights.
  auto forward(stage_context const& context, parameter_values const& weights, auto&& f) {
    install(weights);
    if (module_->is_training() != context.training) module_->train(context.training);
    std::vector<at::Tensor> buffers;
    if (context.recomputing) {  // running statistics have seen this micro-batch
      torch::NoGradGuard const no_graph;
      for (at::Tensor const& each : module_->buffers()) buffers.push_back(each.clone());
    }
    std::optional<seeded_generator> generator;
    if (draws_ && context.training) {
      auto const bits = context.random().at(0x746f7263).four(0);
      generator.emplace(std::uint64_t{bits[1]} << 32 | bits[0], device_.value_or(at::kCPU));
    }
    struct back {
      stage_context const* before = std::exchange(current_context(), nullptr);
      ~back() { current_context() = before; }
    } const on_return;
    current_context() = &context;
    torch::AutoGradMode const graph(makes_graph(context));
    return translated([&] {
      auto result = f();
      if (!buffers.empty()) {
        torch::NoGradGuard const no_graph;
        auto const now = module_->buffers();
        for (std::size_t i = 0; i < now.size(); ++i) now[i].copy_(buffers[i]);
      }
      return result;
    });
  }

  /// Backward as a whole. `gradients` of the run's outputs; the results are those of its inputs, undefined where there is none.
  std::vector<at::Tensor> backward(parameter_values const& weights, module_run& of,
                                   std::vector<at::Tensor> const& gradients, parameter_values& sum) {
    return translated([&] {
      install(weights);
      auto const from = roots(of, gradients);
      auto const inputs = learning(of.inputs);
      std::vector<at::Tensor> found(inputs.size());
      if (auto const wanted = joined(inputs, parameters()); !from.edges.empty() && !wanted.empty()) {
        accumulation const into(*this, sum);
        torch::autograd::Engine::get_default_engine().execute(from.edges, from.gradients, false, false, true,
                                                              edges_of(wanted));
        for (std::size_t i = 0; i < inputs.size(); ++i) found[i] = std::exchange(inputs[i].mutable_grad(), {});
        into.finish();
      }
      auto result = spread(of.inputs, std::move(found));
      of.clear();
      return result;
    });
  }

  std::vector<at::Tensor> backward_input(parameter_values const& weights, module_run& of,
                                         std::vector<at::Tensor> const& gradients) {
    return translated([&] {
      auto const inputs = learning(of.inputs);
      if (inputs.empty()) return std::vector<at::Tensor>(of.inputs.size());  // all of backward is the second half
      install(weights);
      auto const from = roots(of, gradients);
      std::vector<at::Tensor> found(inputs.size());
      if (!from.edges.empty()) found = of.split.backward_input(from.edges, from.gradients, inputs, parameters());
      auto result = spread(of.inputs, std::move(found));
      of.clear();
      return result;
    });
  }

  void backward_weight(parameter_values const& weights, module_run& of, std::vector<at::Tensor> const& gradients,
                       parameter_values& sum) {
    translated([&] {
      if (!of.outputs.empty()) {  // the first half had no input to find a gradient for
        backward(weights, of, gradients, sum);
        return 0;
      }
      install(weights);
      accumulation const into(*this, sum);
      of.split.backward_weight([&](std::size_t i, at::Tensor const& gradient) { add(i, gradient, sum); });
      return 0;
    });
  }

  torch::nn::Module& module() const { return *module_; }
  std::optional<at::Device> device() const { return device_; }
  double scale() const { return options_.scaler ? options_.scaler->factor() : 1; }

 private:
  /// Lets the module's parameters be a version's. Before every forward and every backward: a graph reads some of them only
  /// then, silently what they are at that time.
  void install(parameter_values const& weights) {
    if (weights.size() != list_->size())
      throw error("these weights are not the module's: " + std::to_string(weights.size()) + " parameters instead of " +
                  std::to_string(list_->size()) + "; initialize them with the stage");
    torch::NoGradGuard const no_graph;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      at::Tensor p = list_->parameters[i];
      if (p.scalar_type() != weights[i].scalar_type()) p.set_data(weights[i].to(p.scalar_type()));
      else if (p.const_data_ptr() != weights[i].const_data_ptr()) p.set_data(weights[i]);
    }
  }

  bool has_dropout() const {
    for (auto const& each : module_->modules()) {
      auto const p = [&]<class M>(M const* m) { return m != nullptr && m->options.p() > 0; };
      if (p(each->as<torch::nn::DropoutImpl>()) || p(each->as<torch::nn::Dropout2dImpl>()) ||
          p(each->as<torch::nn::Dropout3dImpl>()) || p(each->as<torch::nn::AlphaDropoutImpl>()) ||
          p(each->as<torch::nn::FeatureAlphaDropoutImpl>()))
        return true;
      auto const within = [&]<class M>(M const* m) { return m != nullptr && m->options.dropout() > 0; };
      if (within(each->as<torch::nn::LSTMImpl>()) || within(each->as<torch::nn::GRUImpl>()) ||
          within(each->as<torch::nn::RNNImpl>()))
        return true;
    }
    return false;
  }

  std::vector<at::Tensor> parameters() const {
    std::vector<at::Tensor> all;
    all.reserve(learning_.size());
    for (std::size_t const i : learning_) all.push_back(list_->parameters[i]);
    return all;
  }
  static std::vector<at::Tensor> learning(std::vector<at::Tensor> const& inputs) {
    std::vector<at::Tensor> all;
    for (at::Tensor const& each : inputs)
      if (each.defined() && each.requires_grad()) all.push_back(each);
    return all;
  }
  /// Gradients by input; zero where the output does not depend on one.
  static std::vector<at::Tensor> spread(std::vector<at::Tensor> const& inputs, std::vector<at::Tensor> found) {
    std::vector<at::Tensor> all;
    auto next = found.begin();
    for (at::Tensor const& each : inputs) {
      if (!each.defined() || !each.requires_grad()) all.emplace_back();
      else {
        all.push_back(next->defined() ? std::move(*next) : torch::zeros_like(each));
        ++next;
      }
    }
    return all;
  }

  struct rooted {
    torch::autograd::edge_list edges;
    std::vector<at::Tensor> gradients;
  };
  /// The outputs that have a graph, with their gradients.
  static rooted roots(module_run const& of, std::vector<at::Tensor> const& gradients) {
    if (of.outputs.size() != gradients.size())
      throw error("backward was given " + std::to_string(gradients.size()) + " gradients for " +
                  std::to_string(of.outputs.size()) + " output tensors; run it once after each forward");
    rooted from;
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      graph_root const& y = of.outputs[i];
      at::Tensor const& dy = gradients[i];
      if (!y.edge.is_valid() || !dy.defined()) continue;
      if (dy.sizes() != y.sizes || dy.scalar_type() != y.dtype)
        throw error("the gradient of output tensor " + std::to_string(i) + " is " + described(dy) +
                    ", but the output is " + described(y.dtype, y.sizes) + "; check what the stage after gives");
      from.edges.push_back(y.edge);
      from.gradients.push_back(dy);
    }
    return from;
  }

  /// While it lives, backward adds a parameter's gradient to the sum as soon as it is known, so that no more than one is held
  /// beside it. What the sum has in another type or without the loss's scale is added at the end.
  class accumulation {
   public:
    accumulation(module_runner const& of, parameter_values& sum) : of_{of}, sum_{sum}, parameters_{of.parameters()} {
      for (std::size_t i = 0; i < parameters_.size(); ++i)
        if (is_direct(i)) parameters_[i].mutable_grad() = sum_[of_.learning_[i]];
    }
    accumulation(accumulation const&) = delete;
    accumulation& operator=(accumulation const&) = delete;
    ~accumulation() {
      for (at::Tensor const& p : parameters_) p.mutable_grad().reset();
    }
    void finish() const {
      for (std::size_t i = 0; i < parameters_.size(); ++i)
        if (parameters_[i].grad().defined() && !is_direct(i)) of_.add(i, parameters_[i].grad(), sum_);
    }

   private:
    bool is_direct(std::size_t i) const {
      return of_.scale() == 1 && sum_[of_.learning_[i]].scalar_type() == parameters_[i].scalar_type();
    }

    module_runner const& of_;
    parameter_values& sum_;
    std::vector<at::Tensor> parameters_;
  };

  static std::vector<at::Tensor> joined(std::vector<at::Tensor> first, std::vector<at::Tensor> const& second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
  }

  /// Into the master gradient, without the loss's scale. `i` counts the parameters that learn.
  void add(std::size_t i, at::Tensor const& gradient, parameter_values& sum) const {
    torch::NoGradGuard const no_graph;
    at::Tensor to = sum[learning_[i]];
    if (double const s = scale(); s == 1) to.add_(gradient);
    else to.add_(gradient.to(to.scalar_type()), 1 / s);
  }

  std::shared_ptr<torch::nn::Module> module_;
  module_options options_;
  std::shared_ptr<parameter_list const> list_;
  std::vector<std::size_t> learning_;
  std::optional<at::Device> device_;
  bool draws_ = false;
};

}  // namespace detail

}  // namespace pipewright::inline v0::libtorch
