// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

#include <pipewright/stage/any_value.hpp>
#include <pipewright/stage/explain.hpp>
#include <pipewright/stage/layers.hpp>
#include <pipewright/stage/recompute.hpp>

namespace pipewright::inline v0 {

namespace detail {

template<class S, class Input, class Output> consteval bool explain_any_stage() {
  if constexpr (!explain_recompute<S>()) return false;
  else if constexpr (!stage<S>) {
    static_assert(stage<S>, "pipewright: any_stage holds no loss stage; hold it in any_loss_stage<Input, Target>");
    return false;
  } else {
    constexpr bool fits = std::same_as<typename S::input, Input> && std::same_as<typename S::output, Output> &&
                          std::same_as<input_gradient_t<S>, Input> && std::same_as<output_gradient_t<S>, Output>;
    static_assert(
        fits,
        "pipewright: any_stage<Input, Output> holds stages whose input and input gradient are Input, whose "
        "output and output gradient are Output; name the stage's own types there, or put a stage that differs "
        "(token ids have no gradient) into the list as it is");
    return fits;
  }
}

template<class S, class Input, class Target> consteval bool explain_any_loss_stage() {
  if constexpr (!explain_recompute<S>()) return false;
  else {
    constexpr bool fits = [] {
      if constexpr (loss_stage<S>)
        return std::same_as<typename S::input, Input> && std::same_as<typename S::target, Target> &&
               std::same_as<input_gradient_t<S>, Input>;
      else return false;
    }();
    static_assert(fits,
                  "pipewright: any_loss_stage<Input, Target> holds loss stages whose input and input gradient are "
                  "Input and whose target is Target; name the stage's own types there");
    return fits;
  }
}

}  // namespace detail

/// Any stage of given boundary types, its own type forgotten: for lists of layers and cuts that only start-up knows. Put it
/// into a list as repeated(std::vector of factories) or by itself. Costs an indirect call an action; saved values are made
/// at a slot's first use. It keeps its input, its backward comes whole, and it holds recomputable stages only. `Element` is
/// the type of the parameters' numbers, `Context` the execution context that the engine passes. Copies are deep.
template<class Input, class Output = Input, class Element = float, class Context = stage_context>
class any_stage : public detail::any_stage_types<Element> {
  using types = detail::any_stage_types<Element>;

 public:
  using input = Input;
  using output = Output;
  using typename types::gradients;
  using typename types::saved;
  using typename types::weights;

  template<class S>
  requires(!std::same_as<S, any_stage> && requires { typename S::weights; }) any_stage(S stage) {
    if constexpr (detail::explain_any_stage<S, Input, Output>()) stage_ = std::make_unique<holder<S>>(std::move(stage));
  }
  any_stage(any_stage const& other) : stage_{other.stage_->copy()} {}
  any_stage(any_stage&&) noexcept = default;
  any_stage& operator=(any_stage other) noexcept {
    stage_.swap(other.stage_);
    return *this;
  }

  int layers() const { return stage_->layers(); }
  void initialize(stage_context const& context, weights& w) { stage_->initialize(context, w); }
  void forward(Context& context, weights const& w, Input const& x, Output& y, saved& s) {
    stage_->forward(context, w, x, y, s);
  }
  void backward(Context& context, weights const& w, saved& s, Output const& dy, Input& dx, gradients& g) {
    stage_->backward(context, w, s, dy, dx, g);
  }

 private:
  struct base {
    virtual ~base() = default;
    virtual std::unique_ptr<base> copy() const = 0;
    virtual int layers() const = 0;
    virtual void initialize(stage_context const&, weights&) = 0;
    virtual void forward(Context&, weights const&, Input const&, Output&, saved&) = 0;
    virtual void backward(Context&, weights const&, saved&, Output const&, Input&, gradients&) = 0;
  };
  template<class S> struct holder final : base {
    using W = typename S::weights;
    using G = typename S::gradients;
    using V = typename S::saved;
    S inside;
    explicit holder(S stage) : inside(std::move(stage)) {}
    std::unique_ptr<base> copy() const override { return std::make_unique<holder>(inside); }
    int layers() const override { return layers_of(inside); }
    void initialize(stage_context const& context, weights& w) override {
      pipewright::initialize(inside, context, w.template make<W, G>());
    }
    void forward(Context& context, weights const& w, Input const& x, Output& y, saved& s) override {
      inside.forward(context, w.template as<W, G>(), x, y, s.template as<V>());
    }
    void backward(Context& context, weights const& w, saved& s, Output const& dy, Input& dx, gradients& g) override {
      inside.backward(context, w.template as<W, G>(), s.template as<V>(), dy, dx, g.template as<G, G>());
    }
  };

  std::unique_ptr<base> stage_;
};

/// Any loss stage of given types, as any_stage is any stage.
template<class Input, class Target, class Element = float, class Context = stage_context>
class any_loss_stage : public detail::any_stage_types<Element> {
  using types = detail::any_stage_types<Element>;

 public:
  using input = Input;
  using target = Target;
  using typename types::gradients;
  using typename types::saved;
  using typename types::weights;

  template<class S>
  requires(!std::same_as<S, any_loss_stage> && requires { typename S::weights; }) any_loss_stage(S stage) {
    if constexpr (detail::explain_any_loss_stage<S, Input, Target>())
      stage_ = std::make_unique<holder<S>>(std::move(stage));
  }
  any_loss_stage(any_loss_stage const& other) : stage_{other.stage_->copy()} {}
  any_loss_stage(any_loss_stage&&) noexcept = default;
  any_loss_stage& operator=(any_loss_stage other) noexcept {
    stage_.swap(other.stage_);
    return *this;
  }

  int layers() const { return stage_->layers(); }
  void initialize(stage_context const& context, weights& w) { stage_->initialize(context, w); }
  loss forward(Context& context, weights const& w, Input const& x, Target const& t, saved& s) {
    return stage_->forward(context, w, x, t, s);
  }
  void backward(Context& context, weights const& w, saved& s, Input& dx, gradients& g) {
    stage_->backward(context, w, s, dx, g);
  }

 private:
  struct base {
    virtual ~base() = default;
    virtual std::unique_ptr<base> copy() const = 0;
    virtual int layers() const = 0;
    virtual void initialize(stage_context const&, weights&) = 0;
    virtual loss forward(Context&, weights const&, Input const&, Target const&, saved&) = 0;
    virtual void backward(Context&, weights const&, saved&, Input&, gradients&) = 0;
  };
  template<class S> struct holder final : base {
    using W = typename S::weights;
    using G = typename S::gradients;
    using V = typename S::saved;
    S inside;
    explicit holder(S stage) : inside(std::move(stage)) {}
    std::unique_ptr<base> copy() const override { return std::make_unique<holder>(inside); }
    int layers() const override { return layers_of(inside); }
    void initialize(stage_context const& context, weights& w) override {
      pipewright::initialize(inside, context, w.template make<W, G>());
    }
    loss forward(Context& context, weights const& w, Input const& x, Target const& t, saved& s) override {
      return inside.forward(context, w.template as<W, G>(), x, t, s.template as<V>());
    }
    void backward(Context& context, weights const& w, saved& s, Input& dx, gradients& g) override {
      inside.backward(context, w.template as<W, G>(), s.template as<V>(), dx, g.template as<G, G>());
    }
  };

  std::unique_ptr<base> stage_;
};

}  // namespace pipewright::inline v0
