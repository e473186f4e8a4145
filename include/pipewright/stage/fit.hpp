// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>

#include <pipewright/stage/stage.hpp>

namespace pipewright::inline v0 {

/// Where two neighbours do not fit; its arguments stand in the error: position and output type of the one, position and
/// input type of the next, positions counted from 0 in the chain or the list.
template<int Position, class Output, int NextPosition, class Input> struct OUTPUT_IS_NOT_THE_NEXT_INPUT {
  static_assert(
      std::same_as<Output, Input>,
      "pipewright: neighbours do not fit; the arguments of OUTPUT_IS_NOT_THE_NEXT_INPUT are the position and "
      "output of the one, the position and input of the next; give them one type or put a converting layer between");
  static constexpr bool ok = std::same_as<Output, Input>;
};

/// As OUTPUT_IS_NOT_THE_NEXT_INPUT, for the gradients that flow back.
template<int Position, class OutputGradient, int NextPosition, class InputGradient>
struct INPUT_GRADIENT_IS_NOT_THE_OUTPUT_GRADIENT_BEFORE {
  static_assert(
      std::same_as<OutputGradient, InputGradient>,
      "pipewright: neighbours do not fit; the arguments of INPUT_GRADIENT_IS_NOT_THE_OUTPUT_GRADIENT_BEFORE are "
      "the position and output gradient of the one, the position and input gradient of the next; give them one type");
  static constexpr bool ok = std::same_as<OutputGradient, InputGradient>;
};

/// A loss stage gives no output, so nothing can follow it; its argument is where it stands.
template<int Position, bool IsLast> struct LOSS_STAGE_STANDS_BEFORE_THE_END {
  static_assert(IsLast,
                "pipewright: a loss stage gives no output and can only stand last; the argument of "
                "LOSS_STAGE_STANDS_BEFORE_THE_END is its position; move it to the end or give it an output");
  static constexpr bool ok = IsLast;
};

/// Whether stage B takes what stage A gives, forwards and backwards.
template<class A, class B>
concept fits_before = stage<A> && any_kind_of_stage<B> && std::same_as<typename A::output, typename B::input> &&
                      std::same_as<output_gradient_t<A>, input_gradient_t<B>>;

/// Explains at compile time why A at one position cannot feed B at the next; true where it can.
template<any_kind_of_stage A, int Position, any_kind_of_stage B, int NextPosition = Position + 1> consteval bool
explain_fit() {
  if constexpr (!stage<A>) return LOSS_STAGE_STANDS_BEFORE_THE_END<Position, false>::ok;
  else if constexpr (!std::same_as<typename A::output, typename B::input>)
    return OUTPUT_IS_NOT_THE_NEXT_INPUT<Position, typename A::output, NextPosition, typename B::input>::ok;
  else
    return INPUT_GRADIENT_IS_NOT_THE_OUTPUT_GRADIENT_BEFORE<Position, output_gradient_t<A>, NextPosition,
                                                            input_gradient_t<B>>::ok;
}

}  // namespace pipewright::inline v0
