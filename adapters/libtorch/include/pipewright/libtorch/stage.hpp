// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <pipewright/libtorch/boundary.hpp>
#include <pipewright/libtorch/module_runner.hpp>
#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0::libtorch {

namespace detail {

/// What runs a module that says nothing else: its forward.
struct call_forward {
  template<class M, class... In> auto operator()(M& module, In&&... in) const
      -> decltype(module.forward(std::forward<In>(in)...)) {
    return module.forward(std::forward<In>(in)...);
  }
};

template<class M> std::shared_ptr<M> pointer_to(std::shared_ptr<M> module) { return module; }
template<class M> std::shared_ptr<M> pointer_to(torch::nn::ModuleHolder<M> const& module) { return module.ptr(); }
template<class M> using module_of = typename decltype(pointer_to(std::declval<M>()))::element_type;
template<class M>
concept module_pointer = requires(M module) {
  { pointer_to(module) } -> std::convertible_to<std::shared_ptr<torch::nn::Module>>;
};

/// Calls f(module, input...), or f(context, module, input...) where it asks for the context; a tuple comes apart.
template<class F, class M> decltype(auto) call(F& f, stage_context const& context, M& module, auto&&... in) {
  if constexpr (std::invocable<F&, M&, decltype(in)...>) return f(module, std::forward<decltype(in)>(in)...);
  else return f(context, module, std::forward<decltype(in)>(in)...);
}
template<class T> inline constexpr bool is_tuple = false;
template<class... T> inline constexpr bool is_tuple<std::tuple<T...>> = true;
/// The arguments that an input is to a module.
template<class T> auto arguments_of(T&& value) {
  if constexpr (is_tuple<std::remove_cvref_t<T>>) return std::forward<T>(value);
  else return std::tuple<T>(std::forward<T>(value));
}

/// A boundary as a module sees it, on its device: tensors that learn are the leaves of a new graph, noted in order.
template<class T>
decltype(auto) opened(T const& value, std::optional<at::Device> where, bool learns, std::vector<at::Tensor>* note) {
  if constexpr (boundary<T>::has_tensors)
    return rebuilt<module_form<T>>(value, [&](tensor const& each) {
      at::Tensor leaf = each.defined() ? each.on(where.value_or(each->device())).detach() : at::Tensor();
      if (learns && leaf.defined() && leaf.is_floating_point()) leaf.requires_grad_();
      if (note != nullptr) note->push_back(leaf);
      return leaf;
    });
  else return (value);
}

template<class T> std::vector<at::Tensor> tensors_of(T const& value, std::optional<at::Device> where) {
  std::vector<at::Tensor> all;
  each_tensor(value, [&](tensor const& each) {
    all.push_back(each.defined() ? each.on(where.value_or(each->device())) : *each);
  });
  return all;
}

/// What both kinds of stages share. Movable; not copyable, since a module is one: lists of stages take factories.
template<class Input> class any_module_stage {
 public:
  using input = Input;
  using input_gradient = gradient_of<Input>;
  using weights = parameter_values;
  using gradients = parameter_values;
  struct saved : module_run {
    input_gradient like{};  ///< the input's structure
  };
  static constexpr bool keeps_input = true;

  void initialize(stage_context const& context, weights& w) { w = runner_.initial(context); }

 protected:
  any_module_stage(std::shared_ptr<torch::nn::Module> module, module_options options)
      : runner_(std::move(module), std::move(options)) {}
  any_module_stage(any_module_stage&&) noexcept = default;
  any_module_stage& operator=(any_module_stage&&) noexcept = default;
  ~any_module_stage() = default;

  decltype(auto) open(stage_context const& context, Input const& x, saved& keep) {
    keep.clear();
    keep.like = rebuilt<input_gradient>(x, [](tensor const&) { return tensor(); });
    std::vector<at::Tensor> given;
    each_tensor(x, [&](tensor const& each) { given.push_back(*each); });
    runner_.check_inputs(given);
    return opened(x, runner_.device(), makes_graph(context), &keep.inputs);
  }
  static void give(std::vector<at::Tensor> found, saved const& keep, input_gradient& dx) {
    dx = keep.like;
    auto next = found.begin();
    each_tensor(dx, [&](tensor& each) { each = tensor(*next++); });
  }

  module_runner runner_;
};

}  // namespace detail

/// A stage made of any torch::nn module. Boundaries are made of `tensor`, optionals, vectors and tuples of such, and anything
/// else that a module may take (see boundary.hpp); a tuple's parts are the arguments of forward.
///     [] { return libtorch::stage<>(torch::nn::Linear(4, 4)); }
///     [] { return libtorch::stage<std::tuple<tensor, std::optional<tensor>>, tensor>(my_module()); }
///     [] { return libtorch::stage<>(my_module(), [](my_module_impl& m, at::Tensor x) { return m.run(x); }); }
/// A function that takes a `stage_context const&` before the module may look up what belongs to that micro-batch (a mask,
/// positions). Weights are explicit versions: the module's parameters are set to the version asked for before every forward
/// and every backward, so that nobody else may keep or change them. Half-precision parameters have float master weights.
/// Whatever device the module is on: versions, gradients and the optimizer's states are there too, boundaries are brought there, and
/// what it computes is queued on the current stream of the rank's thread. Ranks that are threads overlap with a stream each: set
/// a c10::StreamGuard before the rank's modules and pipeline are made, and keep it until they are gone.
/// Backward comes whole or in halves, of the graph that forward has made; deterministic with at::set_num_threads(1).
template<class Input = tensor, class Output = Input> class stage : public detail::any_module_stage<Input> {
  using base = detail::any_module_stage<Input>;

 public:
  using output = Output;
  using output_gradient = gradient_of<Output>;
  using typename base::gradients;
  using typename base::input_gradient;
  using typename base::saved;
  using typename base::weights;

  template<detail::module_pointer M, class F = detail::call_forward>
  explicit stage(M const& module, F f = {}, module_options options = {})
      : base(detail::pointer_to(module), std::move(options)),
        run_{[on = detail::pointer_to(module).get(), f = std::move(f)](stage_context const& context,
                                                                       module_form<Input> const& x) mutable {
          return std::apply(
              [&](auto const&... in) -> module_form<Output> { return detail::call(f, context, *on, in...); },
              detail::arguments_of(x));
        }} {}
  template<detail::module_pointer M> stage(M const& module, module_options options)
      : stage(module, detail::call_forward{}, std::move(options)) {}

  void forward(auto& context, weights const& w, Input const& x, Output& y, saved& keep) {
    auto const& in = this->open(context, x, keep);
    auto const out = this->runner_.forward(context, w, [&] { return run_(context, in); });
    y = detail::rebuilt<Output>(out, [&](at::Tensor const& each) {
      keep.outputs.emplace_back(each);
      return tensor(each);
    });
    if (!detail::makes_graph(context)) keep.clear();
  }
  void backward(auto&, weights const& w, saved& keep, output_gradient const& dy, input_gradient& dx, gradients& g) {
    base::give(this->runner_.backward(w, keep, gradients_of(dy), g), keep, dx);
  }
  void backward_input(auto&, weights const& w, saved& keep, output_gradient const& dy, input_gradient& dx) {
    base::give(this->runner_.backward_input(w, keep, gradients_of(dy)), keep, dx);
  }
  void backward_weight(auto&, weights const& w, saved& keep, output_gradient const& dy, gradients& g) {
    this->runner_.backward_weight(w, keep, gradients_of(dy), g);
  }

 private:
  std::vector<at::Tensor> gradients_of(output_gradient const& dy) const {
    return detail::tensors_of(dy, this->runner_.device());
  }

  std::function<module_form<Output>(stage_context const&, module_form<Input> const&)> run_;
};

/// The last stage: f(module, input..., target...) gives the loss, a tensor of one number, or a pair of it and its weight (see
/// pipewright::loss).
template<class Input = tensor, class Target = tensor> class loss_stage : public detail::any_module_stage<Input> {
  using base = detail::any_module_stage<Input>;

 public:
  using target = Target;
  using typename base::gradients;
  using typename base::input_gradient;
  using typename base::saved;
  using typename base::weights;

  template<detail::module_pointer M, class F = detail::call_forward>
  explicit loss_stage(M const& module, F f = {}, module_options options = {})
      : base(detail::pointer_to(module), std::move(options)),
        run_{[on = detail::pointer_to(module).get(), f = std::move(f)](
                 stage_context const& context, module_form<Input> const& x, module_form<Target> const& t) mutable {
          return std::apply([&](auto const&... in) -> weighted_loss { return detail::call(f, context, *on, in...); },
                            std::tuple_cat(detail::arguments_of(x), detail::arguments_of(t)));
        }} {}
  template<detail::module_pointer M> loss_stage(M const& module, module_options options)
      : loss_stage(module, detail::call_forward{}, std::move(options)) {}

  loss forward(auto& context, weights const& w, Input const& x, Target const& t, saved& keep) {
    auto const& in = this->open(context, x, keep);
    auto const& goal = detail::opened(t, this->runner_.device(), false, nullptr);
    auto const out = this->runner_.forward(context, w, [&] { return run_(context, in, goal); });
    if (out.value.numel() != 1)
      throw error("the loss is " + detail::described(out.value) + ", and must be one number; take its mean or its sum");
    if (detail::makes_graph(context)) keep.outputs.emplace_back(out.value);
    else keep.clear();
    return {.value = out.value.template item<double>(), .weight = out.weight};
  }
  void backward(auto&, weights const& w, saved& keep, input_gradient& dx, gradients& g) {
    base::give(this->runner_.backward(w, keep, unit(keep), g), keep, dx);
  }
  void backward_input(auto&, weights const& w, saved& keep, input_gradient& dx) {
    base::give(this->runner_.backward_input(w, keep, unit(keep)), keep, dx);
  }
  void backward_weight(auto&, weights const& w, saved& keep, gradients& g) {
    this->runner_.backward_weight(w, keep, unit(keep), g);
  }

 private:
  struct weighted_loss {
    at::Tensor value;
    double weight = 1;
    weighted_loss(at::Tensor const& v) : value{v} {}
    template<class W> weighted_loss(std::pair<at::Tensor, W> const& both)
        : value{both.first}, weight{static_cast<double>(both.second)} {}
  };
  /// The gradient of the loss by itself, scaled.
  std::vector<at::Tensor> unit(saved const& keep) const {
    if (keep.outputs.empty()) return {};
    auto const& loss = keep.outputs[0];
    if (!loss.edge.is_valid()) return {at::Tensor()};
    return {torch::full(loss.sizes, this->runner_.scale(), at::TensorOptions(loss.dtype).device(*loss.device))};
  }

  std::function<weighted_loss(stage_context const&, module_form<Input> const&, module_form<Target> const&)> run_;
};

static_assert(pipewright::stage<stage<>> && split_backward_stage<stage<>> && recomputable_stage<stage<>>);
static_assert(pipewright::loss_stage<loss_stage<>> && split_backward_stage<loss_stage<>>);

}  // namespace pipewright::inline v0::libtorch
