// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>

#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0 {

/// Says in a sentence, at compile time, what a type lacks to be a stage or, where it names a target, a loss stage: the
/// first lack only, so that one fault is one error. True where it lacks nothing.
template<class S> consteval bool explain_stage() {
  constexpr bool ends_in_loss = requires { typename S::target; };
  if constexpr (!requires {
                  typename S::weights;
                  typename S::gradients;
                  typename S::saved;
                })
    static_assert(has_weights<S>,
                  "pipewright: a stage names its types weights, gradients and saved; where it has none "
                  "of a kind, write using weights = pipewright::nothing");
  else if constexpr (!std::default_initializable<typename S::weights> || !std::default_initializable<typename S::saved>)
    static_assert(has_weights<S>,
                  "pipewright: a stage's weights and saved are made empty first; give both a default "
                  "constructor and size them in initialize(context, weights) and in forward");
  else if constexpr (!visitable_parameters<typename S::weights> || !visitable_parameters<typename S::gradients>)
    static_assert(has_weights<S>,
                  "pipewright: a stage's weights and gradients let themselves be visited; give both a "
                  "for_each_parameter(auto&& visit) that calls visit(name, span, parameter_options{}) "
                  "for every tensor");
  else if constexpr (!requires { typename S::input; } || (!ends_in_loss && !requires { typename S::output; }))
    static_assert(has_input<S> && has_output<S>,
                  "pipewright: a stage names its types input and output; a loss stage "
                  "names target in place of output");
  else if constexpr (!has_input<S>)
    static_assert(has_input<S>,
                  "pipewright: a stage's input lands in a slot that is made empty first; give its type, "
                  "and its gradient's, a default constructor");
  else if constexpr (ends_in_loss) {
    if constexpr (!has_target<S>)
      static_assert(has_target<S>,
                    "pipewright: a loss stage's target lands in a slot that is made empty first; give its "
                    "type a default constructor");
    else if constexpr (!has_loss_forward<S>)
      static_assert(has_loss_forward<S>,
                    "pipewright: loss stage lacks forward(context, weights const&, input const&, "
                    "target const&, saved&) -> pipewright::loss; take the context as auto&");
    else if constexpr (!has_loss_backward<S>)
      static_assert(has_loss_backward<S>,
                    "pipewright: loss stage lacks backward(context, weights const&, saved&, "
                    "input_gradient&, gradients&); if it is never trained, write an empty one");
  } else if constexpr (!has_output<S>)
    static_assert(has_output<S>,
                  "pipewright: a stage's output is written into a slot that is made empty first; give its "
                  "type, and its gradient's, a default constructor");
  else if constexpr (!has_forward<S>)
    static_assert(has_forward<S>,
                  "pipewright: stage lacks forward(context, weights const&, input const&, output&, "
                  "saved&); take the context as auto&");
  else if constexpr (!has_backward<S>)
    static_assert(has_backward<S>,
                  "pipewright: stage lacks backward(context, weights const&, saved&, output_gradient "
                  "const&, input_gradient&, gradients&); if it is never trained, write an empty one");
  return any_kind_of_stage<S>;
}

}  // namespace pipewright::inline v0
