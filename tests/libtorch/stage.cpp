// SPDX-License-Identifier: Apache-2.0
// What stages made of torch's modules do beyond the laws: versions that change between forward and backward, memory between
// the halves of backward, dtypes, frozen parameters, running statistics, checks of what comes in.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <laws/stage.hpp>
#include <support/counting_allocator.hpp>
#include <support/doctest_with_torch.hpp>
#include <torch/torch.h>

#include <pipewright/libtorch/libtorch.hpp>

#include "modules.hpp"

using namespace test;
using lt::tensor;

namespace {

template<class S> struct held {
  S stage;
  lt::parameter_values weights{};
  pw::stage_context context{};
  explicit held(S made) : stage(std::move(made)) { stage.initialize(context, weights); }
};

std::string sentence_of(auto f) {
  try {
    f();
  } catch (pw::error const& e) {
    return e.what();
  }
  return {};
}
bool says(std::string const& text, std::string const& part) { return text.find(part) != text.npos; }

}  // namespace

TEST_CASE("backward reads the version that forward read, though the module has held another one since") {
  held h(lt::stage<>(set(std::make_shared<mixer>(3))));
  auto const x = numbers({4, 3}), dy = numbers({4, 3}, 1);
  auto next = h.weights;  // a later version
  next.for_each_parameter([](std::string_view, auto values, pw::parameter_options) {
    for (auto& each : values) each += 0.25f;
  });
  auto const gradients = [&](bool with_another_between, bool in_halves) {
    tensor y, dx;
    lt::stage<>::saved first, second;
    auto g = pw::make_gradients<lt::stage<>>(h.weights);
    h.stage.forward(h.context, h.weights, x, y, first);
    if (with_another_between) h.stage.forward(h.context, next, x, y, second);
    if (in_halves) {
      h.stage.backward_input(h.context, h.weights, first, dy, dx);
      if (with_another_between) {
        auto other = g;
        h.stage.backward(h.context, next, second, dy, y, other);
      }
      h.stage.backward_weight(h.context, h.weights, first, dy, g);
    } else h.stage.backward(h.context, h.weights, first, dy, dx, g);
    auto all = laws::detail::floats_of(g);
    for (double const each : laws::detail::floats_of(dx)) all.push_back(each);
    return all;
  };
  auto const expected = gradients(false, false);
  CHECK(laws::detail::same_bits(gradients(true, false), expected));
  CHECK(laws::detail::same_bits(gradients(true, true), expected));
}

TEST_CASE("the trap that this guards against: torch lets a graph's weights be replaced, and says nothing") {
  auto const module = set(std::make_shared<mixer>(3));
  auto const run = [&](bool replaced) {
    auto const x = numbers({4, 3})->detach().requires_grad_();
    auto const y = module->forward(x);
    auto const before = module->norm->weight.detach();
    if (replaced) module->norm->weight.set_data(before + 1);
    auto const dx = torch::autograd::grad({y}, {x}, {*numbers({4, 3}, 1)})[0];
    module->norm->weight.set_data(before);
    return dx;
  };
  CHECK_FALSE(torch::equal(run(true), run(false)));
}

TEST_CASE("between its halves backward holds less than before, and after them nothing") {
  support::count_torchs_memory();
  held h(lt::stage<>(set(
      torch::nn::Sequential(torch::nn::LayerNorm(torch::nn::LayerNormOptions({64})), torch::nn::Linear(64, 256),
                            torch::nn::GELU(), torch::nn::Tanh(), torch::nn::Softmax(-1), torch::nn::Linear(256, 64)),
      at::kFloat)));
  auto const x = numbers({128, 64}, 0.3, at::kFloat), dy = numbers({128, 64}, 1, at::kFloat);
  auto g = pw::make_gradients<lt::stage<>>(h.weights);
  lt::stage<>::saved kept;
  tensor y, dx;
  auto const held_now = [] { return support::counted_bytes::now(); };
  h.stage.forward(h.context, h.weights, x, y, kept);  // the module's own first values go
  h.stage.backward(h.context, h.weights, kept, dy, dx, g);
  y = dx = tensor();
  auto const before = held_now();
  h.stage.forward(h.context, h.weights, x, y, kept);
  auto const after_forward = held_now() - before;
  h.stage.backward_input(h.context, h.weights, kept, dy, dx);
  auto const between = held_now() - before;
  h.stage.backward_weight(h.context, h.weights, kept, dy, g);
  auto const after = held_now() - before;
  y = dx = tensor();
  CHECK(held_now() == before);
  // Forward keeps y, the norm's two statistics and its output, and the outputs of linear, tanh and softmax. The first half
  // frees those of linear and tanh, and takes dx and what came to the first linear layer and to the norm.
  auto const row = std::int64_t{128} * sizeof(float), statistics = 2 * row;
  CHECK(after_forward == statistics + row * (64 + 64 + 3 * 256));
  CHECK(between == statistics + row * (64 + 64 + 256 + 64 + 256 + 64));
  CHECK(after == row * (64 + 64));
  MESSAGE("bytes after forward ", after_forward, ", between the halves ", between, ", after them ", after);

  g = pw::make_gradients<lt::stage<>>(h.weights);
  y = tensor();
  for (bool const training : {false, true}) {  // neither evaluation makes a graph, nor a forward that will be run again
    h.context.training = training;
    h.context.saves = !training;
    auto const quiet = support::counted_bytes::restart();
    h.stage.forward(h.context, h.weights, x, y, kept);
    CHECK(held_now() - quiet == row * 64);
    CHECK(support::counted_bytes::most() - quiet < after_forward);
    y = tensor();
  }
}

TEST_CASE("backward holds one parameter's gradient at a time beside the sum, and leaves none with the module") {
  support::count_torchs_memory();
  torch::nn::Sequential layers;
  for (int i = 0; i < 8; ++i) layers->push_back(torch::nn::Linear(64, 64));
  auto const module = set(layers, at::kFloat);
  held h(lt::stage<>{module});
  auto const x = numbers({2, 64}, 0.3, at::kFloat), dy = numbers({2, 64}, 1, at::kFloat);
  auto g = pw::make_gradients<lt::stage<>>(h.weights);
  lt::stage<>::saved kept;
  tensor y, dx;
  auto const run = [&] {
    h.stage.forward(h.context, h.weights, x, y, kept);
    auto const before = support::counted_bytes::restart();
    h.stage.backward(h.context, h.weights, kept, dy, dx, g);
    return support::counted_bytes::most() - before;
  };
  run();
  auto const a_weight = std::int64_t{64} * 64 * sizeof(float);
  auto const beside = run();
  CHECK(beside >= a_weight);
  CHECK(beside < 2 * a_weight);
  for (auto const& p : module->parameters()) CHECK_FALSE(p.grad().defined());
}

TEST_CASE("operations that add to the sum themselves hold no gradient of a weight, and give what torch's give") {
  support::count_torchs_memory();
  constexpr std::int64_t n = 64;
  auto const ids = tensor(torch::tensor({1, 4, 4, 0}, torch::kLong));
  for (tensor const& x : {numbers({4, n}, 0.3, at::kFloat), ids}) {
    lt::parameter_values sums[2];
    std::int64_t beside[2];
    for (bool const by_torch : {false, true}) {
      held h(lt::stage<>(set(std::make_shared<summer>(n, by_torch), at::kFloat)));
      auto& sum = sums[by_torch] = pw::make_gradients<lt::stage<>>(h.weights);
      for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
        lt::stage<>::saved kept;
        tensor y, dx;
        h.stage.forward(h.context, h.weights, x, y, kept);
        auto const before = support::counted_bytes::restart();
        h.stage.backward(h.context, h.weights, kept, numbers({4, n}, 1, at::kFloat), dx, sum);
        beside[by_torch] = support::counted_bytes::most() - before;
      }
    }
    auto const a_weight = 2 * n * n * static_cast<std::int64_t>(sizeof(float));
    CHECK(beside[0] < a_weight / 2);
    CHECK(beside[1] >= a_weight);
    for (std::size_t i = 0; i < sums[0].size(); ++i) CHECK(torch::allclose(sums[0][i], sums[1][i], 1e-5, 1e-6));
  }
}

TEST_CASE("operations that add to the sum themselves add the same bits in one backward and in its halves") {
  constexpr std::int64_t n = 64;
  held h(lt::stage<>(set(std::make_shared<summer>(n), at::kFloat)));
  auto whole = pw::make_gradients<lt::stage<>>(h.weights), halves = pw::make_gradients<lt::stage<>>(h.weights);
  for (int micro_batch = 0; micro_batch < 3; ++micro_batch) {
    auto const x = numbers({2000, n}, 0.3 + micro_batch, at::kFloat),
               dy = numbers({2000, n}, 1 + micro_batch, at::kFloat);
    lt::stage<>::saved kept;
    tensor y, dx;
    h.stage.forward(h.context, h.weights, x, y, kept);
    h.stage.backward(h.context, h.weights, kept, dy, dx, whole);
    h.stage.forward(h.context, h.weights, x, y, kept);
    h.stage.backward_input(h.context, h.weights, kept, dy, dx);
    h.stage.backward_weight(h.context, h.weights, kept, dy, halves);
  }
  for (std::size_t i = 0; i < whole.size(); ++i) CHECK(torch::equal(whole[i], halves[i]));
}

TEST_CASE("outside of a stage the same operations leave sums to torch") {
  auto const module = set(std::make_shared<summer>(3));
  auto const x = torch::tensor({1, 4, 4, 0}, torch::kLong);
  module->forward(x).sum().backward();
  std::vector<at::Tensor> before;
  for (auto const& p : module->parameters()) before.push_back(p.grad().clone());
  auto const found = torch::autograd::grad({module->forward(x).sum()}, module->parameters());
  for (std::size_t i = 0; i < before.size(); ++i) {
    CHECK(torch::equal(module->parameters()[i].grad(), before[i]));
    CHECK(torch::equal(found[i], before[i]));
  }
}

TEST_CASE("the same operations take what torch's take: numbers of any shape and kind, a bias that is not there") {
  auto const weight = *numbers({5, 3});
  auto const ids = torch::tensor({{1, 4}, {4, 0}}, torch::kInt);
  CHECK(torch::equal(lt::embedding(weight, ids), torch::embedding(weight, ids)));
  for (std::vector<std::int64_t> const& sizes : {std::vector<std::int64_t>{3}, {4, 3}, {2, 4, 3}}) {
    at::Tensor const x = numbers(sizes)->requires_grad_(), w = weight.clone().requires_grad_(),
                     b = numbers({5})->requires_grad_();
    CHECK(torch::equal(lt::affine(x, w, at::Tensor(), true), torch::linear(x, w)));
    at::Tensor const ours = lt::affine(x, w, b, true), torchs = torch::linear(x, w, b);
    CHECK(ours.sizes() == torchs.sizes());
    CHECK(torch::allclose(ours, torchs));
    at::Tensor const dy = torch::arange(ours.numel(), torch::kDouble).view(ours.sizes());
    auto const found = torch::autograd::grad({ours}, {x, w, b}, {dy});
    auto const expected = torch::autograd::grad({torchs}, {x, w, b}, {dy});
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(torch::allclose(found[i], expected[i]));
  }
}

TEST_CASE("a receive is not made into what a graph may read") {
  tensor a = numbers({3});
  at::Tensor const shared = *a;
  auto const shape = a.shape();
  a.reshape(shape);
  CHECK(a->data_ptr() != shared.data_ptr());
  auto const* const own = a->data_ptr();
  a.reshape(shape);
  CHECK(a->data_ptr() == own);  // nobody else has it: no new memory
}

TEST_CASE("tensors say what they are made of, whatever their dtype") {
  for (auto const type : {at::kBFloat16, at::kHalf, at::kFloat, at::kDouble, at::kLong, at::kBool}) {
    tensor from(torch::ones({2, 3}, type)), to;
    std::vector<std::int64_t> shape;
    pw::append_shape(from, shape);
    pw::reshape(to, shape);
    CHECK((to->scalar_type() == type));
    CHECK(to->sizes() == from->sizes());
    CHECK(pw::bytes_of(from) == 6 * static_cast<std::size_t>(from->element_size()));
    pw::for_each_part(from, [&](pw::part p) {
      if (type == at::kBFloat16) CHECK((p.type == pw::element::bfloat16));
      if (type == at::kBool) CHECK((p.type == pw::element::byte));
    });
  }
  tensor nothing, to = numbers({2});
  std::vector<std::int64_t> shape;
  pw::append_shape(nothing, shape);
  pw::reshape(to, shape);
  CHECK_FALSE(to.defined());
  CHECK(says(sentence_of([&] { to.reshape(std::vector<std::int64_t>{1000, 2}); }), "does not know"));
}

TEST_CASE("half-precision modules have float weights and gradients; boundaries keep their dtype") {
  for (auto const type : {at::kBFloat16, at::kHalf}) {
    auto const scaler = std::make_shared<lt::loss_scaler>(256.0);
    held plain(lt::stage<>(set(torch::nn::Linear(3, 2), type)));
    held scaled(lt::stage<>(set(torch::nn::Linear(3, 2), type), {.scaler = scaler}));
    auto const x = numbers({4, 3}, 0.3, type), dy = numbers({4, 2}, 1, type);
    tensor y, dx;
    lt::stage<>::saved kept;
    auto g = pw::make_gradients<lt::stage<>>(plain.weights), of_scaled = g;
    int visited = 0;
    g.for_each_parameter([&]<class T>(std::string_view, std::span<T>, pw::parameter_options) {
      CHECK(std::same_as<T, float>);
      ++visited;
    });
    CHECK(visited == 2);
    plain.stage.forward(plain.context, plain.weights, x, y, kept);
    CHECK((y->scalar_type() == type));
    plain.stage.backward(plain.context, plain.weights, kept, dy, dx, g);
    CHECK((dx->scalar_type() == type));
    CHECK(torch::allclose(g[0], torch::mm(dy->t().to(at::kFloat), x->to(at::kFloat)), 0.01, 0.01));
    // The loss's factor, a power of two, comes with dy and goes before the sum.
    scaled.stage.forward(scaled.context, scaled.weights, x, y, kept);
    scaled.stage.backward(scaled.context, scaled.weights, kept, tensor(*dy * 256), dx, of_scaled);
    CHECK(torch::equal(g[0], of_scaled[0]));
    CHECK(torch::equal(g[1], of_scaled[1]));
  }
}

TEST_CASE("the loss's scale is halved after an update that was passed over, and doubled after good ones") {
  lt::loss_scaler scaler(1024, 2);
  auto const after = [&](std::int64_t step, std::int64_t updates) {
    scaler.note({.step = step, .updates = updates});
    return scaler.factor();
  };
  CHECK(after(0, 1) == 1024);
  CHECK(after(1, 2) == 2048);
  CHECK(after(2, 2) == 1024);
  CHECK(after(3, 3) == 1024);
  CHECK(after(4, 4) == 2048);
  lt::loss_scaler resumed(1, 2);
  resumed.resume(scaler.now());
  resumed.note({.step = 5, .updates = 4});  // passed over, as only one that knows of the four before can tell
  CHECK(resumed.factor() == 1024);
}

TEST_CASE("frozen parameters are versions too, and have no gradient") {
  auto const module = set(torch::nn::Linear(3, 2));
  module->bias.set_requires_grad(false);
  held h(lt::stage<>(module, {.prefix = "top."}));
  std::vector<std::pair<std::string, bool>> seen;
  h.weights.for_each_parameter(
      [&](std::string_view name, auto, pw::parameter_options options) { seen.emplace_back(name, options.frozen); });
  CHECK(seen == std::vector<std::pair<std::string, bool>>{{"top.weight", false}, {"top.bias", true}});
  tensor y, dx;
  lt::stage<>::saved kept;
  for (bool const in_halves : {false, true}) {
    auto g = pw::make_gradients<lt::stage<>>(h.weights);
    h.stage.forward(h.context, h.weights, numbers({4, 3}), y, kept);
    if (in_halves) {
      h.stage.backward_input(h.context, h.weights, kept, numbers({4, 2}, 1), dx);
      h.stage.backward_weight(h.context, h.weights, kept, numbers({4, 2}, 1), g);
    } else h.stage.backward(h.context, h.weights, kept, numbers({4, 2}, 1), dx, g);
    CHECK(torch::allclose(g[0], numbers({4, 2}, 1)->t().mm(*numbers({4, 3}))));
    CHECK(torch::equal(g[1], torch::zeros_like(g[1])));
  }
}

TEST_CASE("a parameter that is frozen once its stage is made is refused, whole and in halves") {
  auto const module = set(torch::nn::Linear(3, 2));
  held h(lt::stage<>{module});
  tensor y, dx;
  lt::stage<>::saved kept;
  auto g = pw::make_gradients<lt::stage<>>(h.weights);
  module->bias.set_requires_grad(false);
  for (bool const in_halves : {false, true}) {
    h.stage.forward(h.context, h.weights, numbers({4, 3}), y, kept);
    CHECK(says(sentence_of([&] {
                 if (in_halves) h.stage.backward_input(h.context, h.weights, kept, numbers({4, 2}, 1), dx);
                 else h.stage.backward(h.context, h.weights, kept, numbers({4, 2}, 1), dx, g);
               }),
               "a parameter has stopped to require a gradient since its stage was made; freeze it before"));
  }
}

TEST_CASE("running statistics see each micro-batch once, and evaluation uses them") {
  auto const module = set(torch::nn::BatchNorm1d(3));
  held h(lt::stage<>{module});
  tensor y;
  lt::stage<>::saved kept;
  h.stage.forward(h.context, h.weights, numbers({4, 3}), y, kept);
  auto const once = module->running_mean.clone();
  h.context.recomputing = true;
  h.stage.forward(h.context, h.weights, numbers({4, 3}), y, kept);
  CHECK(torch::equal(module->running_mean, once));
  h.context.recomputing = false;
  h.stage.forward(h.context, h.weights, numbers({4, 3}), y, kept);
  CHECK_FALSE(torch::equal(module->running_mean, once));
  h.context.training = false;
  auto const twice = module->running_mean.clone();
  h.stage.forward(h.context, h.weights, numbers({1, 3}), y, kept);
  CHECK(torch::equal(module->running_mean, twice));
}

TEST_CASE("a function may ask for the context, for what belongs to a micro-batch") {
  std::vector<at::Tensor> masks{torch::zeros({3}, at::kDouble), torch::ones({3}, at::kDouble)};
  held h(lt::stage<>(set(torch::nn::Linear(3, 3)),
                     [masks](pw::stage_context const& here, torch::nn::LinearImpl& m, at::Tensor const& x) {
                       return m.forward(x) * masks.at(static_cast<std::size_t>(here.micro_batch));
                     }));
  tensor y;
  lt::stage<>::saved kept;
  h.stage.forward(h.context, h.weights, numbers({2, 3}), y, kept);
  CHECK(y->abs().sum().item<double>() == 0);
  h.context.micro_batch = 1;
  h.stage.forward(h.context, h.weights, numbers({2, 3}), y, kept);
  CHECK(y->abs().sum().item<double>() > 0);
}

TEST_CASE("what does not fit is said") {
  using two = lt::stage<std::vector<tensor>, tensor>;
  lt::module_options const options{.inputs = {{.dtype = at::kDouble, .sizes = {{-1, 3}}}}};
  held h(two(
      set(torch::nn::Linear(3, 2)), [](auto& m, std::vector<at::Tensor> const& x) { return m.forward(x[0]); },
      options));
  two::saved kept;
  tensor y;
  auto const forward = [&](std::vector<tensor> const& x) {
    return sentence_of([&] { h.stage.forward(h.context, h.weights, x, y, kept); });
  };
  CHECK(forward({numbers({4, 3})}) == "");
  CHECK(says(forward({numbers({4, 3}), numbers({1})}), "the input has 2 tensors, but the stage takes 1"));
  CHECK(says(forward({numbers({4, 2})}), "input tensor 0 is Double [4, 2], but the stage takes Double [*, 3]"));
  CHECK(says(forward({numbers({4, 3}, 0, at::kFloat)}), "is Float [4, 3], but the stage takes Double [*, 3]"));
  CHECK(says(forward({tensor()}), "is nothing, but"));
  CHECK(forward({numbers({4, 3})}) == "");
  std::vector<tensor> dx;
  auto g = pw::make_gradients<two>(h.weights);
  CHECK(says(sentence_of([&] { h.stage.backward(h.context, h.weights, kept, numbers({4, 3}), dx, g); }),
             "the gradient of output tensor 0 is Double [4, 3], but the output is Double [4, 2]"));
  held unchecked(lt::stage<>(set(torch::nn::Linear(3, 2))));
  lt::stage<>::saved other;
  auto const text =
      sentence_of([&] { unchecked.stage.forward(unchecked.context, unchecked.weights, numbers({4, 2}), y, other); });
  CHECK(text.starts_with("LibTorch: "));
  CHECK_FALSE(says(text, "frame #"));
  held loss(lt::loss_stage<>(set(torch::nn::Linear(3, 2)),
                             [](auto& m, at::Tensor const& x, at::Tensor const&) { return at::Tensor(m.forward(x)); }));
  lt::loss_stage<>::saved of_loss;
  CHECK(
      says(sentence_of([&] { loss.stage.forward(loss.context, loss.weights, numbers({4, 3}), numbers({1}), of_loss); }),
           "the loss is Double [4, 2], and must be one number"));
  CHECK(says(sentence_of([] { lt::stage<> refused(set(torch::nn::Linear(3, 2), at::kComplexFloat)); }), "floating"));
  CHECK(says(sentence_of([] { lt::keyed_dropout(torch::ones({2}), 0, 0.5); }), "inside of one only"));
}
