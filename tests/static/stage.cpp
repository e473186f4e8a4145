// SPDX-License-Identifier: Apache-2.0
// What is a stage and what is not, what fits and what does not; compiling is passing.
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include <support/toy_stages.hpp>

#include <pipewright/schedule/explain.hpp>
#include <pipewright/schedule/named.hpp>
#include <pipewright/stage/any_stage.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/stage/chain.hpp>
#include <pipewright/stage/explain_needs.hpp>
#include <pipewright/stage/recompute.hpp>
#include <pipewright/stage/stage_set.hpp>

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

// boundaries of any type
using tokens = std::vector<int>;
using pair = std::tuple<std::vector<float>, std::optional<tokens>>;
struct labelled {
  std::string name;
  std::unique_ptr<float> value;  // not copyable
};
static_assert(pw::stage<layer<tokens, pair>> && pw::stage<layer<pair, labelled>> &&
              pw::stage<layer<labelled, std::variant<int, pair>>>);
static_assert(pw::stage<pw::chain<layer<tokens, pair>, layer<pair, labelled>, layer<labelled, float>>>);
static_assert(pw::fits_before<layer<tokens, pair>, layer<pair, labelled>>);
static_assert(!pw::fits_before<layer<pair, labelled>, layer<tokens, pair>>);  // other types
static_assert(!pw::fits_before<toys::distance, toys::dense>);                 // a loss gives no output

// gradients of other types than the values they belong to
struct embedding : layer<tokens, std::vector<float>> {
  using input_gradient = pw::nothing;
  void backward(auto&, weights const&, saved&, output const&, input_gradient&, gradients&) {}
};
static_assert(pw::stage<embedding> && std::same_as<pw::input_gradient_t<embedding>, pw::nothing>);
static_assert(!pw::fits_before<layer<float, tokens>, embedding>);  // tokens' gradient is not nothing there

// whoever lacks something
struct without_forward : toys::dense {
  void forward() = delete;
};
static_assert(!pw::stage<without_forward>);  // hides the base's
struct without_default : toys::dense {
  struct saved {
    saved(int);
  };
};
static_assert(!pw::stage<without_default>);  // slots are made empty
static_assert(!pw::stage<int> && !pw::loss_stage<int> && !pw::stage<pw::nothing>);

// refinements go through the combinators
using half = pw::chain<toys::dense, toys::drop>;
static_assert(pw::split_backward_stage<half> && pw::split_backward_stage<pw::repeated_layers<half>>);
static_assert(!pw::split_backward_stage<pw::chain<half, toys::cube>>);  // one layer's backward comes whole
static_assert(pw::recompute_mode_of(half{}) == pw::recompute_mode::never);
static_assert(pw::recompute_mode_of(pw::recompute<half>{}) == pw::recompute_mode::always);
static_assert(pw::recompute_mode_of(pw::recompute<half, pw::recompute_mode::except_last>{}) ==
              pw::recompute_mode::except_last);
static_assert(pw::stage<pw::recompute<half>> && pw::loss_stage<pw::recompute<toys::distance>>);
static_assert(pw::stage<pw::placed<half>> && pw::loss_stage<pw::placed<toys::distance>>);

// layers
struct three : toys::cube {
  static constexpr int layers = 3;
};
struct some : toys::cube {
  constexpr int layers() const { return 4; }
};
static_assert(pw::layers_of<toys::cube>() == 1 && pw::layers_of<three>() == 3 &&
              pw::layers_of<pw::chain<three, half>>() == 5);
static_assert(!pw::layers_known<some> && pw::layers_of(some{}) == 4 && !pw::layers_known<pw::chain<three, some>>);

// every schedule of the library explains itself to be one, and runs over any stage's backward
static_assert([] {
  bool all = true;
  pw::for_each_schedule(pw::all_schedules{},
                        []<class P>(std::type_identity<P>) { static_assert(pw::explain_schedule<P>()); });
  pw::for_each_schedule(pw::all_schedules{},
                        [&]<class P>(std::type_identity<P>) { all = all && pw::explain_needs<P, toys::cube>(); });
  return all;
}());
static_assert(!pw::schedule_policy<toys::cube>);

// sets of stages
using listed = decltype(pw::stages(toys::dense{}, pw::repeated<3>([] { return toys::dense{}; }), toys::distance{}));
using cut = decltype(pw::balance<1, 2>(pw::layers(toys::dense{}, toys::cube{}, toys::distance{})));
using start_up =
    decltype(pw::balance(pw::layers(toys::dense{}, toys::cube{}, toys::distance{}), std::vector<int>{1, 2}));
using marked = decltype(pw::recompute_each(std::declval<listed>()));
static_assert(pw::stage_set<listed> && pw::stage_set<cut> && pw::stage_set<start_up> && pw::stage_set<marked>);
static_assert(!pw::stage_set<pw::not_a_stage_set> && !pw::stage_set<std::vector<toys::dense>>);
static_assert(std::same_as<listed::input, toys::numbers> && pw::loss_stage<listed::last> && pw::loss_stage<cut::last> &&
              pw::loss_stage<start_up::last>);
static_assert(pw::explain_training<listed>() && pw::explain_training<cut>() && pw::explain_training<start_up>());
