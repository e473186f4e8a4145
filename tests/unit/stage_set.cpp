// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <vector>

#include <boost/hana/equal.hpp>
#include <boost/hana/integral_constant.hpp>
#include <boost/hana/size.hpp>
#include <doctest/doctest.h>
#include <support/toy_stages.hpp>

#include <pipewright/stage/balance.hpp>

namespace pw = pipewright;
namespace hana = boost::hana;

// Counts how many of it were ever made by a factory.
struct counted : toys::dense {
  int number = 0;
};
auto counting(std::vector<int>& made) {
  return [&made](int i) {
    made.push_back(i);
    return counted{{}, i};
  };
}

static_assert(pw::stage_set<decltype(pw::stages(toys::dense{}, toys::distance{}))>);
static_assert(!pw::stage_set<toys::dense>);  // a stage is not a set of stages

TEST_CASE("a list's stages come by index, from stages, callables and repetitions") {
  std::vector<int> made;
  int heads = 0;
  auto const set =
      pw::stages(toys::dense{2, 2}, pw::repeated(counting(made), 3), [&heads] { return ++heads, toys::distance{}; });
  CHECK(set.size() == 5);
  CHECK(made.empty());
  CHECK(heads == 0);

  std::string seen;
  set.visit(2, [&]<class S>(S&& stage) {
    if constexpr (std::derived_from<S, counted>) seen = "counted " + std::to_string(stage.number);
    CHECK(stage.first_layer == 2);
  });
  CHECK(seen == "counted 1");
  CHECK(made == std::vector{1});  // only the one that was asked for
  set.visit(4, [&]<class S>(S&& stage) {
    CHECK(pw::loss_stage<S>);
    CHECK(stage.first_layer == 4);
  });
  CHECK(heads == 1);
  CHECK(made == std::vector{1});
  CHECK_THROWS_WITH_AS(set.visit(5, [](auto&&) {}), "pipewright: there is no stage 5 among 5", pw::error);
  CHECK_THROWS_AS(set.visit(-1, [](auto&&) {}), pw::error);
}

TEST_CASE("stages of several layers move the layers after them") {
  auto const set = pw::stages(pw::chain{toys::dense{}, toys::drop{}}, toys::drop{},
                              pw::repeated([] { return pw::chain{toys::drop{}, toys::drop{}}; }, 2), toys::distance{});
  int const expected[] = {0, 2, 3, 5, 7};
  for (int s = 0; s < set.size(); ++s) set.visit(s, [&](auto&& stage) { CHECK(stage.first_layer == expected[s]); });
}

TEST_CASE("two visits build two independent stages; a set may be a Hana tuple") {
  auto const set = pw::as_stage_set(hana::make_tuple(toys::dense{2, 2}, toys::distance{}));
  void const *first = nullptr, *second = nullptr;
  std::vector<std::unique_ptr<int>> keep;
  set.visit(0, [&](auto&& a) { set.visit(0, [&](auto&& b) { first = &a, second = &b; }); });
  CHECK(first != second);
}

// What a cut must be: which layers (by the number of `counted`, 100 the first, 200 the loss) each stage holds.
template<class Set> std::vector<std::string> contents(Set const& set) {
  std::vector<std::string> all;
  for (int s = 0; s < set.size(); ++s)
    set.visit(s, [&](auto&& stage) {
      typename std::remove_cvref_t<decltype(stage)>::weights w;
      pw::stage_context c{.layer = stage.first_layer};
      stage.initialize(c, w);
      std::string text = std::to_string(stage.first_layer) + ":" + std::to_string(pw::layers_of(stage));
      w.for_each_parameter([&](std::string_view name, auto, pw::parameter_options) { text.append(" ").append(name); });
      all.push_back(text);
    });
  return all;
}

TEST_CASE("balance cuts at compile time and at run time alike") {
  std::vector<int> made;
  auto const constant =
      pw::balance<2, 1, 3>(pw::layers(toys::dense{2, 2}, pw::repeated<4>(counting(made)), toys::distance{}));
  auto const by_list =
      pw::balance(pw::layers(toys::dense{2, 2}, pw::repeated(counting(made), 4), toys::distance{}), {2, 1, 3});
  auto const mixed =
      pw::balance<2, 1, 3>(pw::layers(toys::dense{2, 2}, pw::repeated(counting(made), 4), toys::distance{}));
  static_assert(constant.size() == 3);
  std::vector<std::string> const expected{"0:2 layer.0.weight layer.1.weight", "2:1 layer.2.weight",
                                          "3:3 layer.3.weight layer.4.weight"};
  CHECK(contents(constant) == expected);
  CHECK(made == std::vector{0, 1, 2, 3});
  CHECK(contents(by_list) == expected);
  CHECK(contents(mixed) == expected);
  made.clear();
  by_list.visit(2, [](auto&& stage) { CHECK(pw::loss_stage<std::remove_cvref_t<decltype(stage)>>); });
  CHECK(made == std::vector{2, 3});  // a rank builds its own only
}

TEST_CASE("every cut of a short model holds every layer once") {
  // six layers, all 32 compositions
  for (int cuts = 0; cuts < 32; ++cuts) {
    std::vector<int> sizes{1};
    for (int bit = 0; bit < 5; ++bit)
      if (cuts >> bit & 1) sizes.push_back(1);
      else ++sizes.back();
    std::vector<int> made;
    auto const set = pw::balance(pw::layers(toys::drop{}, pw::repeated(counting(made), 2), toys::dense{},
                                            pw::repeated([] { return toys::cube{}; }, 1), toys::distance{}),
                                 sizes);
    int layer = 0;
    for (int s = 0; s < set.size(); ++s)
      set.visit(s, [&](auto&& stage) {
        CHECK(stage.first_layer == layer);
        CHECK(pw::layers_of(stage) == sizes[static_cast<std::size_t>(s)]);
        layer += pw::layers_of(stage);
      });
    CHECK(layer == 6);
    CHECK(made == std::vector{0, 1});
  }
}

TEST_CASE("a cut's types are few") {
  auto block = [](int) { return toys::dense{}; };
  auto const start_up = pw::balance(pw::layers(toys::dense{}, pw::repeated(block, 12), toys::distance{}), {4, 3, 3, 4});
  static_assert(hana::size(start_up.types) == hana::size_c<6>);
  auto const constant = pw::balance<4, 3, 3, 4>(pw::layers(toys::dense{}, pw::repeated<12>(block), toys::distance{}));
  static_assert(hana::at_c<1>(constant.types) == hana::at_c<2>(constant.types));  // the two stages of blocks only
}

TEST_CASE("sizes that do not fit the model are refused with the numbers") {
  auto model = pw::layers(toys::dense{}, pw::repeated([] { return toys::cube{}; }, 12), toys::distance{});
  CHECK_THROWS_WITH_AS(
      pw::balance(model, {4, 3, 3, 3}),
      "pipewright: balance: the sizes 4 + 3 + 3 + 3 give away 13 layers, but the model has 14; make the two equal",
      pw::error);
  CHECK_THROWS_WITH_AS(pw::balance(model, {14, 0}),
                       "pipewright: balance: every stage needs at least one layer, not 0; with fewer layers than "
                       "stages choose fewer ranks",
                       pw::error);
  CHECK_THROWS_AS(pw::balance(model, {}), pw::error);
  CHECK_THROWS_AS((pw::balance<7, 6>(model)), pw::error);
  CHECK_THROWS_AS(pw::repeated([] { return toys::cube{}; }, 0), pw::error);
}

TEST_CASE("a factory whose stage has more layers than its type tells is refused") {
  auto many = [] { return pw::repeated_layers<toys::dense>(std::vector<toys::dense>(3)); };
  auto const set = pw::stages(many, toys::distance{});
  CHECK_THROWS_AS(set.visit(0, [](auto&&) {}), pw::error);
  auto const by_value = pw::stages(many(), toys::distance{});  // a stage itself says how many it is
  by_value.visit(1, [](auto&& stage) { CHECK(stage.first_layer == 3); });
}

TEST_CASE("stages of a set are marked for recomputation together") {
  for (auto const mode : pw::recompute_modes) {
    auto const set = pw::recompute_each(pw::stages(toys::dense{}, toys::distance{}), mode);
    static_assert(pw::stage_set<decltype(set)>);
    set.visit(1, [&]<class S>(S&& stage) {
      CHECK(pw::recompute_mode_of(stage) == mode);
      CHECK(stage.first_layer == 1);
      CHECK(pw::loss_stage<S>);
    });
  }
  pw::recompute_each(pw::stages(toys::dense{}, toys::distance{})).visit(0, [](auto&& stage) {
    CHECK(pw::recompute_mode_of(stage) == pw::recompute_mode::always);
  });
}
