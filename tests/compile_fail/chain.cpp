// SPDX-License-Identifier: Apache-2.0
// Layers that do not fit are told which, where and why. With no case selected this file compiles: that build is the control.
//
// expect empty: pipewright: a chain has at least one layer; write chain{first, second, ...}
// expect other_type: pipewright: neighbours do not fit; the arguments of OUTPUT_IS_NOT_THE_NEXT_INPUT are the position and output of the one, the position and input of the next; give them one type or put a converting layer between
// expect other_type: OUTPUT_IS_NOT_THE_NEXT_INPUT<1, float, 2, double>
// expect(nvcc) other_type: pipewright: neighbours do not fit; the arguments of OUTPUT_IS_NOT_THE_NEXT_INPUT are the position and output of the one
// expect(nvcc) other_type: with Position=1, Output=float, NextPosition=2, Input=double
// expect other_gradient: pipewright: neighbours do not fit; the arguments of INPUT_GRADIENT_IS_NOT_THE_OUTPUT_GRADIENT_BEFORE are the position and output gradient of the one, the position and input gradient of the next; give them one type
// expect other_gradient: INPUT_GRADIENT_IS_NOT_THE_OUTPUT_GRADIENT_BEFORE<0, float, 1, short
// expect(nvcc) other_gradient: pipewright: neighbours do not fit; the arguments of INPUT_GRADIENT_IS_NOT_THE_OUTPUT_GRADIENT_BEFORE are
// expect(nvcc) other_gradient: with Position=0, OutputGradient=float, NextPosition=1, InputGradient=short
// expect loss_in_the_middle: pipewright: a loss stage gives no output and can only stand last; the argument of LOSS_STAGE_STANDS_BEFORE_THE_END is its position; move it to the end or give it an output
// expect loss_in_the_middle: LOSS_STAGE_STANDS_BEFORE_THE_END<1, false>
// expect(nvcc) loss_in_the_middle: pipewright: a loss stage gives no output and can only stand last
// expect(nvcc) loss_in_the_middle: with Position=1, IsLast=false
// expect not_a_stage: pipewright: a stage names its types weights, gradients and saved
// expect recompute_of_a_layer: pipewright: a schedule recomputes whole stages, not a layer of a chain; take recompute off the layer and write recompute<chain<...>>, or recompute_each(stages, mode)
// expect hidden_state: pipewright: recomputation runs forward twice for a micro-batch, and this stage says recomputable = false (hidden state); leave it out of recompute, or make forward a function of its arguments and remove that line
// expect repeated_does_not_fit: OUTPUT_IS_NOT_THE_NEXT_INPUT<0, double, 0, float>
// expect(nvcc) repeated_does_not_fit: pipewright: neighbours do not fit; the arguments of OUTPUT_IS_NOT_THE_NEXT_INPUT are the position and output of the one
// expect(nvcc) repeated_does_not_fit: with Position=0, Output=double, NextPosition=0, Input=float
// expect any_of_other_types: pipewright: any_stage<Input, Output> holds stages whose input and input gradient are Input
// expect any_of_a_loss: pipewright: any_stage holds no loss stage; hold it in any_loss_stage<Input, Target>
// expect any_loss_of_no_loss: pipewright: any_loss_stage<Input, Target> holds loss stages whose input and input gradient are Input and whose target is Target
// expect any_with_state: pipewright: recomputation runs forward twice for a micro-batch
// expect any_of_other_numbers: pipewright: any_stage<Input, Output, Element> holds stages whose parameters are spans of Element
#include <vector>

#include <pipewright/stage/any_stage.hpp>
#include <pipewright/stage/chain.hpp>
#include <pipewright/stage/repeated_layers.hpp>

namespace pw = pipewright;

template<class In, class Out, class InGradient = In, class Weights = pw::nothing> struct layer {
  using input = In;
  using output = Out;
  using input_gradient = InGradient;
  using weights = Weights;
  using gradients = Weights;
  using saved = pw::nothing;
  void forward(auto&, weights const&, input const&, output&, saved&) {}
  void backward(auto&, weights const&, saved&, output const&, input_gradient&, gradients&) {}
};
template<class In> struct loss_layer {
  using input = In;
  using target = int;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = pw::nothing;
  pw::loss forward(auto&, weights const&, input const&, target const&, saved&) { return {}; }
  void backward(auto&, weights const&, saved&, input&, gradients&) {}
};
struct counts_its_calls : layer<float, float> {
  static constexpr bool recomputable = false;
};
struct doubles {
  std::vector<double> values;
  void for_each_parameter(auto&& visit) { visit(std::string_view{"w"}, std::span{values}, pw::parameter_options{}); }
};
using plain = layer<float, float>;

int main() {
  pw::chain control{plain{}, layer<float, double>{}, layer<double, double>{}, loss_layer<double>{}};
  pw::recompute<pw::chain<plain, plain>> recomputed;
  pw::any_stage<float> any_control{plain{}};
  pw::any_loss_stage<float, int> any_loss_control{loss_layer<float>{}};
#if defined(PIPEWRIGHT_CASE_empty)
  pw::chain<> bad;
#elif defined(PIPEWRIGHT_CASE_other_type)
  pw::chain bad{plain{}, plain{}, layer<double, double>{}};
#elif defined(PIPEWRIGHT_CASE_other_gradient)
  pw::chain bad{plain{}, layer<float, float, short>{}};
#elif defined(PIPEWRIGHT_CASE_loss_in_the_middle)
  pw::chain bad{plain{}, loss_layer<float>{}, plain{}};
#elif defined(PIPEWRIGHT_CASE_not_a_stage)
  pw::chain bad{plain{}, 3.0f};
#elif defined(PIPEWRIGHT_CASE_recompute_of_a_layer)
  pw::chain bad{plain{}, pw::recompute<plain>{}};
#elif defined(PIPEWRIGHT_CASE_hidden_state)
  pw::recompute<counts_its_calls> bad;
#elif defined(PIPEWRIGHT_CASE_repeated_does_not_fit)
  pw::repeated_layers<layer<float, double>> bad(std::vector<layer<float, double>>(2));
#elif defined(PIPEWRIGHT_CASE_any_of_other_types)
  pw::any_stage<float> bad{layer<float, double>{}};
#elif defined(PIPEWRIGHT_CASE_any_of_a_loss)
  pw::any_stage<float> bad{loss_layer<float>{}};
#elif defined(PIPEWRIGHT_CASE_any_loss_of_no_loss)
  pw::any_loss_stage<float, int> bad{plain{}};
#elif defined(PIPEWRIGHT_CASE_any_with_state)
  pw::any_stage<float> bad{counts_its_calls{}};
#elif defined(PIPEWRIGHT_CASE_any_of_other_numbers)
  pw::any_stage<float> bad{layer<float, float, float, doubles>{}};
#endif
}
