// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/toy_stages.hpp>

#include <pipewright/stage/any_stage.hpp>
#include <pipewright/stage/chain.hpp>
#include <pipewright/stage/repeated_layers.hpp>

namespace pw = pipewright;
using toys::numbers;

static int allocations = 0;
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* const p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc{};
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

// 1. positives and negatives
using row = pw::chain<toys::dense, toys::drop, toys::dense>;
using with_loss = pw::chain<toys::dense, toys::dense, toys::distance>;
static_assert(pw::stage<row> && pw::split_backward_stage<row> && pw::recomputable_stage<row> && !pw::loss_stage<row>);
static_assert(pw::loss_stage<with_loss> && pw::split_backward_stage<with_loss> && !pw::stage<with_loss>);
static_assert(pw::stage<pw::chain<toys::cube>> && !pw::split_backward_stage<pw::chain<toys::dense, toys::cube>>);
static_assert(pw::stage<pw::chain<row, toys::cube>>);  // a chain is a layer again
static_assert(row::layers() == 3 && pw::layers_of<pw::chain<row, row>>() == 6);
static_assert(row::keeps_input && !pw::chain<toys::cube, toys::dense>::keeps_input);

struct stateful : toys::cube {
  static constexpr bool recomputable = false;
};
static_assert(!pw::recomputable_stage<pw::chain<toys::dense, stateful>>);

TEST_CASE("a chain does what its layers do one after another, bit for bit") {
  pw::chain chain{toys::dense{2, 3}, toys::cube{}, toys::drop{}, toys::dense{3, 2}};
  using C = decltype(chain);
  pw::stage_context c{.layer = 4, .seed = 9};
  C::weights w;
  chain.initialize(c, w);
  numbers const x{0.5, -1.25}, dy{1, -0.5};
  numbers y{99, 99, 99, 99}, dx{7};
  C::saved s;
  C::gradients g(w);
  chain.forward(c, w, x, y, s);
  chain.backward(c, w, s, dy, dx, g);
  CHECK(c.layer == 4);

  // by hand
  toys::dense d1{2, 3}, d2{3, 2};
  toys::matrix w1, w2;
  auto at = [](int layer) { return pw::stage_context{.layer = layer, .seed = 9}; };
  auto c4 = at(4), c5 = at(5), c6 = at(6), c7 = at(7);
  d1.initialize(c4, w1);
  d2.initialize(c7, w2);
  auto g1 = w1, g2 = w2;
  toys::dense::saved s1, s2;
  numbers a, b, b2, e, sb, da, db, db2, de;
  pw::nothing none;
  d1.forward(c4, w1, x, a, s1);
  toys::cube{}.forward(c5, none, a, b, sb);
  toys::drop{}.forward(c6, none, b, b2, none);
  d2.forward(c7, w2, b2, e, s2);
  d2.backward(c7, w2, s2, dy, db2, g2);
  toys::drop{}.backward(c6, none, none, db2, db, none);
  toys::cube{}.backward(c5, none, sb, db, da, none);
  d1.backward(c4, w1, s1, da, de, g1);
  CHECK(y == e);
  CHECK(dx == de);
  CHECK(std::get<0>(g.layers).values == g1.values);
  CHECK(std::get<3>(g.layers).values == g2.values);

  std::vector<std::string> names;
  w.for_each_parameter([&](std::string_view name, auto, pw::parameter_options) { names.emplace_back(name); });
  CHECK(names == std::vector<std::string>{"layer.4.weight", "layer.7.weight"});
}

TEST_CASE("micro-batches in flight do not disturb one another") {
  pw::chain chain{toys::dense{}, toys::dense{}, toys::distance{}};
  using C = decltype(chain);
  pw::stage_context c;
  C::weights w;
  chain.initialize(c, w);
  numbers const x[2] = {{1, 2}, {-3, 0.5}}, t{0, 1};
  auto alone = [&](int m) {
    C::saved s;
    numbers dx;
    auto g = pw::make_gradients<C>(w);
    auto const l = chain.forward(c, w, x[m], t, s);
    chain.backward(c, w, s, dx, g);
    return std::tuple{l.value, dx, std::get<0>(g.layers).values, std::get<1>(g.layers).values};
  };
  auto const first = alone(0), second = alone(1);
  C::saved s[2];
  numbers dx[2];
  auto g0 = pw::make_gradients<C>(w), g1 = pw::make_gradients<C>(w);
  auto const l0 = chain.forward(c, w, x[0], t, s[0]);
  auto const l1 = chain.forward(c, w, x[1], t, s[1]);
  chain.backward_input(c, w, s[0], dx[0]);  // I0 I1 W0 W1: the halves keep their own gradients between the layers
  chain.backward_input(c, w, s[1], dx[1]);
  chain.backward_weight(c, w, s[0], g0);
  chain.backward_weight(c, w, s[1], g1);
  CHECK(std::tuple{l0.value, dx[0], std::get<0>(g0.layers).values, std::get<1>(g0.layers).values} == first);
  CHECK(std::tuple{l1.value, dx[1], std::get<0>(g1.layers).values, std::get<1>(g1.layers).values} == second);
}

struct throws : toys::cube {
  void forward(auto&, weights const&, numbers const&, numbers&, numbers&) const { throw 1; }
};

TEST_CASE("the context's layer is put back even when a layer throws") {
  pw::chain<toys::cube, throws> chain;
  pw::stage_context c{.layer = 3};
  numbers y;
  decltype(chain)::saved s;
  CHECK_THROWS(chain.forward(c, {}, numbers{1}, y, s));
  CHECK(c.layer == 3);
}

TEST_CASE("gradients are made like the weights, and zero") {
  using C = pw::chain<toys::dense, toys::cube, toys::dense>;
  C chain;
  C::weights w;
  chain.initialize({}, w);
  auto g = pw::make_gradients<C>(w);
  CHECK(pw::count_parameters(g) == 8);
  g.for_each_parameter([](std::string_view name, auto values, pw::parameter_options) {
    CHECK(!name.empty());
    for (double v : values) CHECK(v == 0);
  });
}

template<class S> int allocations_of_a_warm_step(S stage) {
  pw::stage_context c;
  typename S::weights w;
  stage.initialize(c, w);
  auto g = pw::make_gradients<S>(w);
  numbers const x{1, 2}, dy{1, 1};
  numbers y, dx;
  typename S::saved s;
  auto step = [&] {
    stage.forward(c, w, x, y, s);
    stage.backward(c, w, s, dy, dx, g);
    if constexpr (pw::split_backward_stage<S>) {
      stage.forward(c, w, x, y, s);
      stage.backward_input(c, w, s, dy, dx);
      stage.backward_weight(c, w, s, dy, g);
    }
  };
  step();
  int const before = allocations;
  step();
  return allocations - before;
}

TEST_CASE("combinators allocate nothing once their layers do not") {
  CHECK(allocations_of_a_warm_step(pw::chain{toys::dense{}, toys::drop{}, toys::dense{}}) == 0);
  CHECK(allocations_of_a_warm_step(pw::chain{toys::dense{}, toys::cube{}, toys::cube{}}) == 0);
  CHECK(allocations_of_a_warm_step(pw::repeated_layers<toys::dense>(std::vector<toys::dense>(5))) == 0);
  CHECK(allocations_of_a_warm_step(pw::any_stage<numbers, numbers, double>(pw::chain{toys::dense{}, toys::cube{}})) ==
        0);
  int const before = allocations;
  numbers some(3);
  CHECK(allocations == before + 1);  // the count counts
}
