// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <laws/stage.hpp>
#include <support/toy_stages.hpp>

#include <pipewright/stage/any_stage.hpp>
#include <pipewright/stage/balance.hpp>

namespace pw = pipewright;
using toys::numbers;

TEST_CASE("a dense layer") {
  laws::check_stage(laws::example<toys::dense>{
      .make = [] { return toys::dense{3, 2}; }, .input = {0.5, -1.5, 2}, .output_gradient = {1, -0.25}});
}
TEST_CASE("a cube") {
  laws::check_stage(laws::example<toys::cube>{
      .make = [] { return toys::cube{}; }, .input = {0.5, -1.5}, .output_gradient = {1, -0.25}});
}
TEST_CASE("dropout") {
  laws::check_stage(laws::example<toys::drop>{.make = [] { return toys::drop{}; },
                                              .input = {0.5, -1.5, 1, 2, 3},
                                              .output_gradient = {1, -0.25, 1, 1, 1},
                                              .context = {.seed = 3}});
}
TEST_CASE("a loss") {
  laws::check_stage(laws::example<toys::distance>{
      .make = [] { return toys::distance{}; }, .input = {0.5, -1.5}, .target = {1, -0.25}});
}

auto make_chain() {
  return pw::chain{toys::dense{2, 3}, toys::drop{}, toys::dense{3, 3}, toys::drop{}, toys::dense{3, 2}};
}
TEST_CASE("a chain") {
  laws::check_stage(laws::example<decltype(make_chain())>{
      .make = make_chain, .input = {0.5, -1.5}, .output_gradient = {1, -0.25}, .context = {.layer = 2, .seed = 5}});
}
auto make_whole() { return pw::chain{toys::cube{}, toys::dense{}, toys::cube{}, toys::distance{}}; }
TEST_CASE("a chain that ends in a loss and comes whole only") {
  laws::check_stage(
      laws::example<decltype(make_whole())>{.make = make_whole, .input = {0.5, -0.5}, .target = {1, -0.25}});
}

using repeated = pw::repeated_layers<toys::dense>;
TEST_CASE("repeated layers that keep their input") {
  for (std::size_t n : {1, 2, 3, 4})
    laws::check_stage(laws::example<repeated>{.make = [n] { return repeated(std::vector<toys::dense>(n)); },
                                              .input = {0.5, -1.5},
                                              .output_gradient = {1, -0.25},
                                              .context = {.layer = 1}});
}
using repeated_drop = pw::repeated_layers<pw::chain<toys::drop, toys::cube, toys::drop>>;
TEST_CASE("repeated layers of several layers each") {
  laws::check_stage(laws::example<repeated_drop>{
      .make = [] { return repeated_drop(std::vector<pw::chain<toys::drop, toys::cube, toys::drop>>(2)); },
      .input = {0.5, -0.75, 0.25, 1, 0.5, 0.5},
      .output_gradient = {1, -0.25, 1, 1, 1, 1},
      .context = {.layer = 1, .seed = 4}});
}

using any_layer = pw::any_stage<numbers, numbers, double>;
using any_head = pw::any_loss_stage<numbers, numbers, double>;
static_assert(pw::stage<any_layer> && pw::recomputable_stage<any_layer> && pw::loss_stage<any_head> &&
              !pw::loss_stage<any_layer>);
static_assert(!pw::split_backward_stage<any_layer>);  // its backward comes whole
TEST_CASE("any stage") {
  laws::check_stage(laws::example<any_layer>{.make = [] { return any_layer(make_chain()); },
                                             .input = {0.5, -1.5},
                                             .output_gradient = {1, -0.25},
                                             .context = {.layer = 2, .seed = 5}});
}
TEST_CASE("any loss stage") {
  laws::check_stage(laws::example<any_head>{
      .make = [] { return any_head(make_whole()); }, .input = {0.5, -0.5}, .target = {1, -0.25}});
}
TEST_CASE("any stage does what the stage inside does") {
  auto const plain = make_chain();
  any_layer erased(plain);
  CHECK(erased.layers() == 5);
  auto copy = erased;  // deep: the copy goes on when the original is gone
  erased = any_layer(toys::cube{});
  CHECK(copy.layers() == 5);
  auto run = [](auto stage) {
    using S = decltype(stage);
    pw::stage_context c{.layer = 3, .seed = 8};
    typename S::weights w;
    pw::initialize(stage, c, w);
    auto v = w;  // weights are copied, for versions
    auto g = pw::make_gradients<S>(v);
    typename S::saved s;
    numbers y, dx;
    numbers const x{1, 2};
    stage.forward(c, v, x, y, s);
    stage.backward(c, v, s, {1, -1}, dx, g);
    return std::tuple{y, dx, laws::detail::floats_of(g), laws::detail::floats_of(w)};
  };
  CHECK(run(plain) == run(copy));
}
TEST_CASE("layers known at start-up only are cut as any other") {
  std::vector<std::function<any_layer()>> list{[] { return toys::dense{2, 3}; }, [] { return toys::cube{}; },
                                               [] { return toys::dense{3, 2}; }};
  auto const set = pw::balance(pw::layers(pw::repeated(list), toys::distance{}), {2, 2});
  std::string names;
  for (int s = 0; s < 2; ++s)
    set.visit(s, [&](auto&& stage) {
      typename std::remove_cvref_t<decltype(stage)>::weights w;
      pw::initialize(stage, {.layer = stage.first_layer}, w);
      w.for_each_parameter([&](std::string_view name, auto values, auto) {
        names += std::string(name) + "/" + std::to_string(values.size()) + " ";
      });
    });
  CHECK(names == "layer.0.weight/6 layer.2.weight/6 ");
}

// The suite can fail: each of these stages breaks one promise.
namespace broken {
struct adds_into_output : toys::dense {
  void forward(auto&, toys::matrix const& w, numbers const& x, numbers& y, saved& s) const {
    s.x = &x;
    y.resize(static_cast<std::size_t>(out));
    for (int o = 0; o < out; ++o)
      for (int i = 0; i < in; ++i) y[o] += w.values[o * in + i] * x[i];
  }
};
struct overwrites_gradients : toys::dense {
  void backward_weight(auto&, toys::matrix const&, saved& s, numbers const& dy, toys::matrix& g) const {
    for (int o = 0; o < out; ++o)
      for (int i = 0; i < in; ++i) g.values[o * in + i] = dy[o] * (*s.x)[i];
  }
  void backward(auto& c, toys::matrix const& w, saved& s, numbers const& dy, numbers& dx, toys::matrix& g) const {
    backward_input(c, w, s, dy, dx);
    backward_weight(c, w, s, dy, g);
  }
};
struct wrong_derivative : toys::cube {
  void backward(auto&, weights const&, numbers& s, numbers const& dy, numbers& dx, gradients&) const {
    dx.resize(s.size());
    for (std::size_t i = 0; i < s.size(); ++i) dx[i] = 3 * s[i] * dy[i];
  }
};
struct has_a_counter : toys::cube {
  int calls = 0;
  void forward(auto& c, weights const& w, numbers const& x, numbers& y, numbers& s) {
    toys::cube::forward(c, w, x, y, s);
    y[0] += ++calls;
  }
};
struct halves_differ : toys::dense {
  void backward_input(auto& c, toys::matrix const& w, saved& s, numbers const& dy, numbers& dx) const {
    toys::dense::backward_input(c, w, s, dy, dx);
    dx[0] = -dx[0];
  }
};
struct shares_its_saved_values : toys::cube {
  numbers only_one;
  void forward(auto& c, weights const& w, numbers const& x, numbers& y, numbers&) {
    toys::cube::forward(c, w, x, y, only_one);
  }
  void backward(auto& c, weights const& w, numbers&, numbers const& dy, numbers& dx, gradients& g) {
    toys::cube::backward(c, w, only_one, dy, dx, g);
  }
};
struct remembers_in_saved : toys::cube {
  void forward(auto& c, weights const& w, numbers const& x, numbers& y, numbers& s) {
    toys::cube::forward(c, w, x, y, s);
    if (c.recomputing) s[0] = 0;
  }
};
}  // namespace broken

template<class S> std::vector<std::string> broken_laws() {
  return laws::broken_laws(laws::example<S>{.make = [] { return S{}; }, .input = {1, 2}, .output_gradient = {1, 1}});
}
using list = std::vector<std::string>;

TEST_CASE("the suite sees each promise that a stage breaks") {
  CHECK(broken_laws<toys::dense>() == list{});
  auto has = [](list const& all, std::string const& law) {
    return std::find(all.begin(), all.end(), law) != all.end();
  };
  CHECK(has(broken_laws<broken::adds_into_output>(),
            "outputs and input gradients are overwritten, whatever the slots hold"));
  CHECK(broken_laws<broken::overwrites_gradients>() == list{"gradients are added to"});
  CHECK(broken_laws<broken::wrong_derivative>() == list{"the input gradient is the derivative of forward"});
  CHECK(has(broken_laws<broken::has_a_counter>(), "the results are a function of the arguments"));
  CHECK(has(broken_laws<broken::halves_differ>(), "the halves of backward are the whole, bit for bit"));
  CHECK(broken_laws<broken::shares_its_saved_values>() == list{"micro-batches in flight do not disturb one another"});
  CHECK(broken_laws<broken::remembers_in_saved>() == list{"a forward run again saves what the first did"});
}
