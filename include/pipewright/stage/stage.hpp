// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <string_view>
#include <utility>

#include <pipewright/stage/context.hpp>

namespace pipewright::inline v0 {

/// Nothing, where a stage has nothing: no weights, no gradient of an input (token ids), nothing to save.
struct nothing {
  static constexpr void for_each_parameter(auto&&) {}
  friend constexpr bool operator==(nothing, nothing) = default;
};

/// A number that a device is still at: get() waits for it. Whoever gives one away keeps it.
class late_number {
 public:
  virtual double get() = 0;

 protected:
  ~late_number() = default;
};

/// A micro-batch's loss: `value` is what backward differentiates; `weight` counts what it is a sum over (tokens, say),
/// and matters to the per-token loss scale only.
struct loss {
  double value = 0;
  double weight = 1;
  /// Where not null, the loss is this many times value. It is asked for by settle(), once, when its batch is done and before that
  /// micro-batch of the next one begins, so that a device need not be waited for in between.
  late_number* times = nullptr;

  void settle() {
    if (late_number* const late = std::exchange(times, nullptr)) value *= late->get();
  }
};

/// What an optimizer may treat differently from parameter to parameter.
struct parameter_options {
  bool decay = true;    ///< weight decay applies
  bool frozen = false;  ///< never updated
};

namespace detail {
template<class S> struct input_gradient_of {
  using type = typename S::input;
};
template<class S> requires requires { typename S::input_gradient; } struct input_gradient_of<S> {
  using type = typename S::input_gradient;
};
template<class S> struct output_gradient_of {
  using type = typename S::output;
};
template<class S> requires requires { typename S::output_gradient; } struct output_gradient_of<S> {
  using type = typename S::output_gradient;
};
}  // namespace detail

/// The type of a stage's input gradient: `S::input_gradient` if it names one (`nothing` for token ids), else its input.
template<class S> using input_gradient_t = typename detail::input_gradient_of<S>::type;
/// The type of a stage's output gradient: `S::output_gradient` if it names one, else its output.
template<class S> using output_gradient_t = typename detail::output_gradient_of<S>::type;

namespace detail {
struct parameter_visitor {
  void operator()(std::string_view, auto /*values*/, parameter_options) const {}
};
}  // namespace detail

/// Weights or gradients that let themselves be visited: `for_each_parameter(visit)` calls
/// visit(std::string_view name, std::span<T> values, parameter_options) for every tensor, always in the same order.
/// Names are the model's ("h.3.attn.c_attn.weight"), not the layer's. Elements that the CPU cannot reach are visited as a copy,
/// which is written back; the engine itself takes them where they are (see remote_parameter).
template<class T>
concept visitable_parameters = requires(T t) { t.for_each_parameter(detail::parameter_visitor{}); };

template<class S>
concept has_weights =
    requires {
      typename S::weights;
      typename S::gradients;
      typename S::saved;
    } && std::default_initializable<typename S::weights> && std::default_initializable<typename S::saved> &&
    visitable_parameters<typename S::weights> && visitable_parameters<typename S::gradients>;

template<class S>
concept has_input = requires { typename S::input; } && std::default_initializable<typename S::input> &&
                    std::default_initializable<input_gradient_t<S>>;

template<class S>
concept has_output = requires { typename S::output; } && std::default_initializable<typename S::output> &&
                     std::default_initializable<output_gradient_t<S>>;

template<class S>
concept has_target = requires { typename S::target; } && std::default_initializable<typename S::target>;

template<class S>
concept has_forward = requires(S s, stage_context& c, typename S::weights const& w, typename S::input const& x,
                               typename S::output& y, typename S::saved& saved) { s.forward(c, w, x, y, saved); };

template<class S>
concept has_backward = requires(S s, stage_context& c, typename S::weights const& w, typename S::saved& saved,
                                output_gradient_t<S> const& dy, input_gradient_t<S>& dx,
                                typename S::gradients& g) { s.backward(c, w, saved, dy, dx, g); };

template<class S>
concept has_loss_forward = requires(S s, stage_context& c, typename S::weights const& w, typename S::input const& x,
                                    typename S::target const& t, typename S::saved& saved) {
  { s.forward(c, w, x, t, saved) } -> std::convertible_to<loss>;
};

template<class S>
concept has_loss_backward =
    requires(S s, stage_context& c, typename S::weights const& w, typename S::saved& saved, input_gradient_t<S>& dx,
             typename S::gradients& g) { s.backward(c, w, saved, dx, g); };

/// A piece of a model that a rank can run.
/// Needs: (1) the types `input`, `output`, `weights`, `gradients`, `saved`, default-constructible (boundaries may be any
/// type: tuples, optionals, non-tensors; `nothing` where there is none); (2) `forward(context, weights const&,
/// input const&, output&, saved&)`; (3) `backward(context, weights const&, saved&, output_gradient const&,
/// input_gradient&, gradients&)`.
/// Promises: forward keeps in `saved` what backward needs and overwrites all of `output` (the slots are used again and
/// hold old values); backward overwrites `input_gradient` and *adds* into `gradients`; both are functions of their
/// arguments only, randomness comes from `context.random()`.
/// Optional: `input_gradient`, `output_gradient` types; `initialize(context, weights&)`; `layers` (how many layers of the
/// model it is, default 1); `keeps_input = true` (saved may point into the input, which then stays until backward).
/// Not required: thread safety, transfers, weight versions: those are the engine's.
/// Neighbours: split_backward_stage, loss_stage, recomputable_stage.
template<class S>
concept stage = has_weights<S> && has_input<S> && has_output<S> && has_forward<S> && has_backward<S>;

/// The last stage of a training pipeline: instead of an output it takes the micro-batch's target and gives its loss.
/// Needs: `input`, `target`, `weights`, `gradients`, `saved`; `forward(context, weights const&, input const&,
/// target const&, saved&) -> loss`; `backward(context, weights const&, saved&, input_gradient&, gradients&)`, the
/// gradient of loss.value.
template<class S>
concept loss_stage = has_weights<S> && has_input<S> && has_target<S> && has_loss_forward<S> && has_loss_backward<S>;

/// A stage whose backward comes in halves: `backward_input(context, weights const&, saved&, output_gradient const&,
/// input_gradient&)`, then `backward_weight(context, weights const&, saved&, output_gradient const&, gradients&)`.
/// (A loss stage's halves have no output gradient.) Together they do what backward does, bit for bit. The output gradient
/// and saved stay alive until the second half has run.
template<class S>
concept split_backward_stage =
    (stage<S> &&
     requires(S s, stage_context& c, typename S::weights const& w, typename S::saved& saved,
              output_gradient_t<S> const& dy, input_gradient_t<S>& dx, typename S::gradients& g) {
       s.backward_input(c, w, saved, dy, dx);
       s.backward_weight(c, w, saved, dy, g);
     }) ||
    (loss_stage<S> && requires(S s, stage_context& c, typename S::weights const& w, typename S::saved& saved,
                               input_gradient_t<S>& dx, typename S::gradients& g) {
      s.backward_input(c, w, saved, dx);
      s.backward_weight(c, w, saved, g);
    });

/// A stage whose forward may run twice for one micro-batch: it has no hidden state (running statistics, its own random
/// numbers). Every stage is taken to be one unless it says `recomputable = false`.
template<class S>
concept recomputable_stage = (stage<S> || loss_stage<S>) && !requires { requires !S::recomputable; };

/// A stage or a loss stage.
template<class S>
concept any_kind_of_stage = stage<S> || loss_stage<S>;

}  // namespace pipewright::inline v0
