// SPDX-License-Identifier: Apache-2.0
// Lists, cuts and sets of stages that cannot run. With no case selected this file compiles: that build is the control.
//
// expect not_an_entry: pipewright: an entry of a list of stages or layers is a stage, a callable that returns one, or repeated(factory, n)
// expect half_a_stage: pipewright: a stage's weights and gradients let themselves be visited
// expect factory_of_half_a_stage: pipewright: stage lacks backward(context
// expect factory_of_nothing: pipewright: the factory of repeated(factory, n) is called as factory() or as factory(i) with an int, and returns a stage
// expect neighbours: OUTPUT_IS_NOT_THE_NEXT_INPUT<1, double, 2, float>
// expect neighbours: pipewright: neighbours do not fit
// expect(nvcc) neighbours: pipewright: neighbours do not fit; the arguments of OUTPUT_IS_NOT_THE_NEXT_INPUT are the position and output of the one
// expect(nvcc) neighbours: with Position=1, Output=double, NextPosition=2, Input=loss_layer::input
// expect neighbours_of_a_cut: OUTPUT_IS_NOT_THE_NEXT_INPUT<0, float, 1, double>
// expect(nvcc) neighbours_of_a_cut: pipewright: neighbours do not fit; the arguments of OUTPUT_IS_NOT_THE_NEXT_INPUT are the position and output of the one
// expect(nvcc) neighbours_of_a_cut: with Position=0, Output=float, NextPosition=1, Input=double
// expect repetition: OUTPUT_IS_NOT_THE_NEXT_INPUT<1, double, 1, float>
// expect(nvcc) repetition: pipewright: neighbours do not fit; the arguments of OUTPUT_IS_NOT_THE_NEXT_INPUT are the position and output of the one
// expect(nvcc) repetition: with Position=1, Output=double, NextPosition=1, Input=float
// expect two_losses: LOSS_STAGE_STANDS_BEFORE_THE_END<1, false>
// expect(nvcc) two_losses: pipewright: a loss stage gives no output and can only stand last
// expect(nvcc) two_losses: with Position=1, IsLast=false
// expect no_stages: pipewright: a model has at least one stage
// expect sizes: pipewright: balance gives away another number of layers than the model has; the arguments of SIZES_DO_NOT_ADD_UP are the sum of the sizes and the layers of the model; make the two equal
// expect sizes: SIZES_DO_NOT_ADD_UP<13, 14>
// expect(nvcc) sizes: pipewright: balance gives away another number of layers than the model has
// expect(nvcc) sizes: with SumOfSizes=13, LayersOfTheModel=14
// expect empty_stage: pipewright: every stage of balance<...> needs at least one layer; with fewer layers than stages choose fewer ranks
// expect none_repeated: pipewright: repeated<N>(factory) needs N >= 1; leave the entry out instead
// expect not_a_set: pipewright: a set of stages has int size() const, void visit(int index, f) const and the types input and last; make one with stages(...), balance<...>(model) or a Hana tuple of stages
// expect no_loss: pipewright: training needs a loss, and the last stage gives none; the argument of LAST_STAGE_GIVES_NO_LOSS is that stage; put a loss stage (it names target) at the end of the list
// expect no_loss: LAST_STAGE_GIVES_NO_LOSS<
// expect split: pipewright: this schedule runs the halves of backward apart, and this stage has it whole only; the arguments of SCHEDULE_SPLITS_A_BACKWARD_THAT_COMES_WHOLE name both
// expect split: SCHEDULE_SPLITS_A_BACKWARD_THAT_COMES_WHOLE<splitting, layer<float, float>
// expect(nvcc) split: pipewright: this schedule runs the halves of backward apart, and this stage has it whole only
// expect(nvcc) split: with Schedule=splitting, Stage=plain
// expect batch_input: pipewright: a batch lacks input(int micro_batch, Input&) for the first stage's input; the arguments of BATCH_GIVES_ANOTHER_INPUT are the batch and that type
// expect batch_input: BATCH_GIVES_ANOTHER_INPUT<batch<double, int>, float>
// expect(nvcc) batch_input: pipewright: a batch lacks input(int micro_batch, Input&)
// expect(nvcc) batch_input: with Batch=batch<double, int>, Input=float
// expect batch_target: BATCH_GIVES_ANOTHER_TARGET<batch<float, double>, int>
// expect batch_target: pipewright: a batch lacks target(int micro_batch, Target&) for the loss stage's target
// expect(nvcc) batch_target: pipewright: a batch lacks target(int micro_batch, Target&)
// expect(nvcc) batch_target: with Batch=batch<float, double>, Target=loss_layer::target
#include <pipewright/schedule/gpipe.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/stage/explain_needs.hpp>

namespace pw = pipewright;

template<class In, class Out> struct layer {
  using input = In;
  using output = Out;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = pw::nothing;
  void forward(auto&, weights const&, input const&, output&, saved&) {}
  void backward(auto&, weights const&, saved&, output const&, input&, gradients&) {}
};
struct loss_layer {
  using input = float;
  using target = int;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = pw::nothing;
  pw::loss forward(auto&, weights const&, input const&, target const&, saved&) { return {}; }
  void backward(auto&, weights const&, saved&, input&, gradients&) {}
};
struct half {
  using input = float;
  using output = float;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = pw::nothing;
  void forward(auto&, weights const&, input const&, output&, saved&) {}
};
struct hides_its_weights : layer<float, float> {
  using weights = float;
};
struct splitting : pw::gpipe {
  static constexpr pw::backward_form backward = pw::backward_form::split;
};
template<class Input, class Target> struct batch {
  void input(int, Input&) {}
  void target(int, Target&) {}
};
using plain = layer<float, float>;
constexpr auto make_plain = [] { return plain{}; };

int main() {
  auto set = pw::stages(plain{}, make_plain, pw::repeated<2>(make_plain), loss_layer{});
  auto model = pw::layers(plain{}, pw::repeated<12>(make_plain), loss_layer{});
  auto cut = pw::balance<4, 3, 3, 4>(model);
  static_assert(pw::explain_training<decltype(set)>() && pw::explain_training<decltype(cut)>());
  static_assert(pw::explain_needs<pw::gpipe, plain>() && pw::explain_batch<batch<float, int>, decltype(set)>());
#if defined(PIPEWRIGHT_CASE_not_an_entry)
  auto bad = pw::stages(plain{}, 3.0f, loss_layer{});
#elif defined(PIPEWRIGHT_CASE_half_a_stage)
  auto bad = pw::stages(hides_its_weights{}, loss_layer{});
#elif defined(PIPEWRIGHT_CASE_factory_of_half_a_stage)
  auto bad = pw::stages([] { return half{}; }, loss_layer{});
#elif defined(PIPEWRIGHT_CASE_factory_of_nothing)
  auto bad = pw::stages(pw::repeated<2>([](plain) {}), loss_layer{});
#elif defined(PIPEWRIGHT_CASE_neighbours)
  auto bad = pw::stages(plain{}, layer<float, double>{}, loss_layer{});
#elif defined(PIPEWRIGHT_CASE_neighbours_of_a_cut)
  auto bad = pw::balance(pw::layers(plain{}, layer<double, float>{}, loss_layer{}), {1, 2});
#elif defined(PIPEWRIGHT_CASE_repetition)
  auto bad = pw::stages(plain{}, pw::repeated([] { return layer<float, double>{}; }, 2), loss_layer{});
#elif defined(PIPEWRIGHT_CASE_two_losses)
  auto bad = pw::stages(plain{}, pw::repeated([] { return loss_layer{}; }, 2));
#elif defined(PIPEWRIGHT_CASE_no_stages)
  auto bad = pw::stages();
#elif defined(PIPEWRIGHT_CASE_sizes)
  auto bad = pw::balance<4, 3, 3, 3>(model);
#elif defined(PIPEWRIGHT_CASE_empty_stage)
  auto bad = pw::balance<14, 0>(model);
#elif defined(PIPEWRIGHT_CASE_none_repeated)
  auto bad = pw::stages(plain{}, pw::repeated<0>(make_plain), loss_layer{});
#elif defined(PIPEWRIGHT_CASE_not_a_set)
  auto bad = pw::as_stage_set(plain{});
#elif defined(PIPEWRIGHT_CASE_no_loss)
  return pw::explain_training<decltype(pw::stages(plain{}, plain{}))>();
#elif defined(PIPEWRIGHT_CASE_split)
  return pw::explain_needs<splitting, plain>();
#elif defined(PIPEWRIGHT_CASE_batch_input)
  return pw::explain_batch<batch<double, int>, decltype(set)>();
#elif defined(PIPEWRIGHT_CASE_batch_target)
  return pw::explain_batch<batch<float, double>, decltype(set)>();
#endif
}
