// SPDX-License-Identifier: Apache-2.0
// Parameters that the CPU cannot reach: the toy model's, under addresses that no processor takes. They train to the bits of
// those that lie here.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <support/toy_model.hpp>
#include <support/train.hpp>

#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/stage/any_stage.hpp>
#include <pipewright/stage/remote_parameter.hpp>

namespace pw = pipewright;

namespace {

/// An address that cannot be used by mistake, and back.
void* tagged(void const* address) {
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(address) ^ std::uintptr_t{1} << 63);
}

template<class T> class far_array {
 public:
  using element = T;
  struct place {
    std::span<T> values;
    std::vector<T> owned = {};
  };

  explicit far_array(void* address) : at_{static_cast<place*>(tagged(address))} {}
  void* address() const { return tagged(at_); }
  std::size_t size() const { return at_->values.size(); }
  void clear() { std::ranges::fill(at_->values, T{}); }
  double squares() const {
    double sum = 0;
    for (T const each : at_->values) sum += static_cast<double>(each) * static_cast<double>(each);
    return sum;
  }
  void copy_from(far_array other) { std::ranges::copy(other.at_->values, at_->values.begin()); }
  void sum_with(far_array other) {
    for (std::size_t i = 0; i < size(); ++i) at_->values[i] = other.at_->values[i] += at_->values[i];
  }
  void read(std::span<T> to) const { std::ranges::copy(at_->values, to.begin()); }
  void write(std::span<T const> from) { std::ranges::copy(from, at_->values.begin()); }
  std::shared_ptr<void> like() const {
    auto made = std::make_shared<place>();
    made->owned.resize(size());
    made->values = made->owned;
    return {made, tagged(made.get())};
  }
  std::span<T> here() const { return at_->values; }

 private:
  place* at_;
};
static_assert(pw::remote_parameter<far_array<float>>);

/// Weights or gradients, seen as remote ones. Copies are deep.
template<class V> struct far_values {
  V value{};
  far_values() = default;
  explicit far_values(V of) : value(std::move(of)) {}
  far_values(far_values const& other) : value(other.value) {}
  far_values(far_values&&) = default;
  far_values& operator=(far_values other) {
    value = std::move(other.value);
    places_ = nullptr;
    return *this;
  }
  ~far_values() = default;

  void for_each_parameter(auto&& visit) {
    auto places = std::make_shared<std::deque<any_place>>();
    value.for_each_parameter([&]<class T>(std::string_view name, std::span<T> values, pw::parameter_options options) {
      auto& made = places->emplace_back(std::make_shared<typename far_array<T>::place>(values));
      pw::visit_remote(visit, name, far_array<T>(tagged(made.get())), options);
    });
    places_ = std::move(places);
  }

 private:
  using any_place = std::shared_ptr<void>;
  std::shared_ptr<std::deque<any_place>> places_;
};

/// A stage whose weights are elsewhere.
template<class S> struct far_stage {
  S inner;
  int first_layer = 0;
  static constexpr bool ends = pw::loss_stage<S>;
  static constexpr bool keeps_input = true;
  using input = typename S::input;
  using input_gradient = pw::input_gradient_t<S>;
  using weights = far_values<typename S::weights>;
  struct gradients : far_values<typename S::gradients> {
    gradients() = default;
    explicit gradients(weights const& like) : far_values<typename S::gradients>(pw::make_gradients<S>(like.value)) {}
  };
  using saved = typename S::saved;

  void initialize(pw::stage_context const& c, weights& w) { pw::initialize(inner, c, w.value); }
};
template<class S> struct far_middle : far_stage<S> {
  using base = far_stage<S>;
  using output = typename S::output;
  using output_gradient = pw::output_gradient_t<S>;
  void forward(auto& c, typename base::weights const& w, typename S::input const& x, output& y, typename S::saved& s) {
    this->inner.forward(c, w.value, x, y, s);
  }
  void backward(auto& c, typename base::weights const& w, typename S::saved& s, output_gradient const& dy,
                typename base::input_gradient& dx, typename base::gradients& g) {
    this->inner.backward(c, w.value, s, dy, dx, g.value);
  }
};
template<class S> struct far_last : far_stage<S> {
  using base = far_stage<S>;
  using target = typename S::target;
  pw::loss forward(auto& c, typename base::weights const& w, typename S::input const& x, target const& t,
                   typename S::saved& s) {
    return this->inner.forward(c, w.value, x, t, s);
  }
  void backward(auto& c, typename base::weights const& w, typename S::saved& s, typename base::input_gradient& dx,
                typename base::gradients& g) {
    this->inner.backward(c, w.value, s, dx, g.value);
  }
};

template<class T, bool LastIsFar = true> class far_toys {
  using near_last = typename toys::toy_stages<T>::last;

 public:
  using input = toys::tokens;
  using last = std::conditional_t<LastIsFar, far_last<near_last>, near_last>;
  explicit far_toys(int stages) : here_{stages} {}
  int size() const { return here_.size(); }
  void visit(int index, auto&& f) const {
    here_.visit(index, [&]<class S>(S stage) {
      int const first = stage.first_layer;
      if constexpr (pw::loss_stage<S> && !LastIsFar) f(std::move(stage));
      else if constexpr (pw::loss_stage<S>) f(far_last<S>{{std::move(stage), first}});
      else f(far_middle<S>{{std::move(stage), first}});
    });
  }

 private:
  toys::toy_stages<T> here_;
};

/// sgd, which works where the values are.
struct far_sgd : pw::sgd {
  std::atomic<int>* calls;
};
template<class T>
void update_remote(far_sgd const& by, pw::optimizer_step step, pw::parameter_options options, far_array<T> newest,
                   far_array<T> gradient, far_array<T> fresh, std::array<far_array<T>, 1> states) {
  ++*by.calls;
  by.update(step, options, std::span<T const>(newest.here()), std::span<T const>(gradient.here()), fresh.here(),
            std::array{states[0].here()});
}

auto const batches = [](int step) { return toys::toy_batch{step}; };

}  // namespace

TEST_CASE("parameters that the CPU cannot reach train to the same bits") {
  for (std::string const schedule : {"gpipe", "flush", "interleaved", "1f1b", "1f1b-vsync", "2bw"})
    for (int const ranks : {1, 2, 4})
      for (bool const wants_facts : {false, true}) {
        CAPTURE(schedule);
        CAPTURE(ranks);
        CAPTURE(wants_facts);
        bool const is_synchronous = schedule == "gpipe" || schedule == "flush" || schedule == "interleaved";
        int const chunks = schedule == "interleaved" ? 2 : 1, stages = ranks * chunks;
        pw::needs wants{};
        pw::pipeline_options options{.seed = 5};
        if (wants_facts && is_synchronous && stages > 1) {  // tied, and clipped over all stages
          wants = {.step_facts = true, .tied_first = 0, .tied_second = stages - 1};
          options.clip = 0.5;
          options.tied = {"table", "head"};
        } else if (wants_facts) {
          options.clip_over = pw::clip_scope::stage;
          options.clip = 0.5;
        }
        auto const plan = pw::make_plan(schedule, {.ranks = ranks, .micro_batches = 4, .chunks = chunks}, wants);
        support::run_of const run{.calls = "ssesds", .options = options};
        pw::adam const by{.rate = 0.01};
        auto const here =
            support::train_in_pipeline<double>(plan.view(), toys::toy_stages<double>(stages), batches, by, run);
        auto const there = support::train_in_pipeline<double>(plan.view(), far_toys<double>(stages), batches, by, run);
        CHECK(here == there);
        CHECK(here.losses.size() == 4);
      }
}

TEST_CASE("who names another element type is told so") {
  auto const plan = pw::make_plan("gpipe", {.ranks = 1, .micro_batches = 1});
  auto const as_float = [&](auto const& set) {
    pw::in_process::run(plan.view(), [&](pw::in_process::endpoint& here) {
      auto training = pw::pipeline(plan, set, here, pw::sgd{});
      training.for_each_parameter([](auto&&...) {});
    });
  };
  auto const told = doctest::Contains("an element of parameter table has 8 bytes, not 4; name its type");
  CHECK_THROWS_WITH_AS(as_float(toys::toy_stages<double>(1)), told, pw::error);
  CHECK_THROWS_WITH_AS(as_float(far_toys<double>(1)), told, pw::error);
}

TEST_CASE("an optimizer that knows remote parameters updates them there") {
  auto const plan = pw::make_plan("flush", {.ranks = 2, .micro_batches = 4});
  std::atomic<int> calls = 0;
  pw::sgd const by{.rate = 0.01, .momentum = 0.9};
  auto const here = support::train_in_pipeline<double>(plan.view(), toys::toy_stages<double>(2), batches, by, {});
  auto const there =
      support::train_in_pipeline<double>(plan.view(), far_toys<double>(2), batches, far_sgd{by, &calls}, {});
  CHECK(here == there);
  CHECK(calls > 0);
}

TEST_CASE("remote parameters are refused where host addresses are kept") {
  auto const plan = pw::make_plan("gpipe", {.ranks = 1, .micro_batches = 1});
  CHECK_THROWS_WITH_AS(support::train_serially(pw::weight_rule::synchronous, plan.view().facts, far_toys<double>(1),
                                               batches, pw::sgd{}, {}),
                       doctest::Contains("is not in the host's memory"), pw::error);
}

TEST_CASE("a tie of parameters that lie in two places on one rank is refused") {
  auto const plan =
      pw::make_plan("interleaved", {.ranks = 1, .micro_batches = 4, .chunks = 2}, {.tied_first = 0, .tied_second = 1});
  support::run_of const run{.options = {.tied = {"table", "head"}}};
  CHECK_THROWS_WITH_AS(
      support::train_in_pipeline<double>(plan.view(), far_toys<double, false>(2), batches, pw::sgd{}, run),
      doctest::Contains("tied parameters table and head lie in different places"), pw::error);
}
