// SPDX-License-Identifier: Apache-2.0
// What is not a stage is told what it lacks. With no case selected this file compiles: that build is the control.
//
// expect missing_weights: pipewright: a stage names its types weights, gradients and saved; where it has none of a kind, write using weights = pipewright::nothing
// expect weights_need_an_argument: pipewright: a stage's weights and saved are made empty first; give both a default constructor and size them in initialize(context, weights) and in forward
// expect weights_hide: pipewright: a stage's weights and gradients let themselves be visited; give both a for_each_parameter(auto&& visit)
// expect missing_boundaries: pipewright: a stage names its types input and output; a loss stage names target in place of output
// expect input_needs_an_argument: pipewright: a stage's input lands in a slot that is made empty first; give its type, and its gradient's, a default constructor
// expect output_needs_an_argument: pipewright: a stage's output is written into a slot that is made empty first; give its type, and its gradient's, a default constructor
// expect missing_forward: pipewright: stage lacks forward(context, weights const&, input const&, output&, saved&); take the context as auto&
// expect forward_changes_weights: pipewright: stage lacks forward(context, weights const&, input const&, output&, saved&)
// expect missing_backward: pipewright: stage lacks backward(context, weights const&, saved&, output_gradient const&, input_gradient&, gradients&); if it is never trained, write an empty one
// expect target_needs_an_argument: pipewright: a loss stage's target lands in a slot that is made empty first
// expect loss_without_loss: pipewright: loss stage lacks forward(context, weights const&, input const&, target const&, saved&) -> pipewright::loss
// expect loss_missing_backward: pipewright: loss stage lacks backward(context, weights const&, saved&, input_gradient&, gradients&)
#include <pipewright/stage/explain.hpp>

namespace pw = pipewright;

struct types {
  using input = float;
  using output = float;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = float;
};
struct has_forward : types {
  void forward(auto&, weights const&, input const&, output&, saved&) {}
};
struct whole : has_forward {
  void backward(auto&, weights const&, saved&, output const&, input&, gradients&) {}
};
struct loss_types {
  using input = float;
  using target = int;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = float;
};
struct loss_forward : loss_types {
  pw::loss forward(auto&, weights const&, input const&, target const&, saved&) { return {}; }
};
struct whole_loss : loss_forward {
  void backward(auto&, weights const&, saved&, input&, gradients&) {}
};
static_assert(pw::explain_stage<whole>() && pw::explain_stage<whole_loss>());

struct sized {
  explicit sized(int) {}
  static void for_each_parameter(auto&&) {}
};

struct missing_weights {
  using input = float;
  using output = float;
};
struct weights_need_an_argument : whole {
  using weights = sized;
};
struct weights_hide : whole {
  using weights = float;
};
struct missing_boundaries {
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = float;
};
struct input_needs_an_argument : whole {
  using input = sized;
};
struct output_needs_an_argument : whole {
  using output = sized;
};
using missing_forward = types;
struct forward_changes_weights : types {
  void forward(auto&, weights&, input const&, output&, saved&) {}
};
using missing_backward = has_forward;
struct target_needs_an_argument : whole_loss {
  using target = sized;
};
struct loss_without_loss : loss_types {
  void forward(auto&, weights const&, input const&, target const&, saved&) {}
};
using loss_missing_backward = loss_forward;

int main() {
#if defined(PIPEWRIGHT_CASE_missing_weights)
  return pw::explain_stage<missing_weights>();
#elif defined(PIPEWRIGHT_CASE_weights_need_an_argument)
  return pw::explain_stage<weights_need_an_argument>();
#elif defined(PIPEWRIGHT_CASE_weights_hide)
  return pw::explain_stage<weights_hide>();
#elif defined(PIPEWRIGHT_CASE_missing_boundaries)
  return pw::explain_stage<missing_boundaries>();
#elif defined(PIPEWRIGHT_CASE_input_needs_an_argument)
  return pw::explain_stage<input_needs_an_argument>();
#elif defined(PIPEWRIGHT_CASE_output_needs_an_argument)
  return pw::explain_stage<output_needs_an_argument>();
#elif defined(PIPEWRIGHT_CASE_missing_forward)
  return pw::explain_stage<missing_forward>();
#elif defined(PIPEWRIGHT_CASE_forward_changes_weights)
  return pw::explain_stage<forward_changes_weights>();
#elif defined(PIPEWRIGHT_CASE_missing_backward)
  return pw::explain_stage<missing_backward>();
#elif defined(PIPEWRIGHT_CASE_target_needs_an_argument)
  return pw::explain_stage<target_needs_an_argument>();
#elif defined(PIPEWRIGHT_CASE_loss_without_loss)
  return pw::explain_stage<loss_without_loss>();
#elif defined(PIPEWRIGHT_CASE_loss_missing_backward)
  return pw::explain_stage<loss_missing_backward>();
#endif
}
