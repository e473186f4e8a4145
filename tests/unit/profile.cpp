// SPDX-License-Identifier: Apache-2.0
// What a profiler measures of layers whose bytes are known and whose times have a floor.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/pipewright.hpp>
#include <pipewright/profile/profile_layers.hpp>
#include <pipewright/profile/profile_links.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;

namespace {

using floats = std::vector<float>;

/// Proven by the plan: complete, free of deadlock, one micro-batch in flight of each stage.
constexpr auto apart =
    pw::plan<pw::layer_by_layer<pw::backward_form::split>, pw::shape{.ranks = 1, .micro_batches = 2, .chunks = 3}>;
constexpr auto whole =
    pw::plan<pw::layer_by_layer<pw::backward_form::full>, pw::shape{.ranks = 2, .micro_batches = 3, .chunks = 2}>;
static_assert(pw::plan_view(apart).slots[1].saved == 1);
static_assert(pw::plan_view(whole).stages() == 4);

void take(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

struct numbers {
  floats values;
  void for_each_parameter(auto&& visit) { visit(std::string_view{"w"}, std::span{values}, pw::parameter_options{}); }
};

/// Gives and keeps as many floats as its index says, and takes its time; halves of backward where it has some.
template<bool HasHalves> struct slow {
  using input = floats;
  using output = floats;
  using weights = numbers;
  using gradients = numbers;
  using saved = floats;
  static constexpr bool keeps_input = HasHalves;

  std::size_t outputs, kept, parameters;

  void initialize(pw::stage_context const&, numbers& w) const { w.values.assign(parameters, 0.5f); }
  void forward(pw::stage_context const& context, numbers const&, floats const& x, floats& y, floats& s) const {
    take(context.recomputing ? 4 : 1);
    s.assign(kept, x[0]);
    y.assign(outputs, x[0]);
  }
  void backward(auto&, numbers const&, floats&, floats const& dy, floats& dx, numbers&) const requires(!HasHalves) {
    take(5);
    dx.assign(3, dy[0]);
  }
  void backward_input(auto&, numbers const&, floats&, floats const& dy, floats& dx) const requires HasHalves {
    take(2);
    dx.assign(3, dy[0]);
  }
  void backward_weight(auto&, numbers const&, floats&, floats const&, numbers&) const requires HasHalves { take(3); }
  void backward(auto& c, numbers const& w, floats& s, floats const& dy, floats& dx, numbers& g) const requires HasHalves
  {
    backward_input(c, w, s, dy, dx);
    backward_weight(c, w, s, dy, g);
  }
};
template<bool HasHalves> struct slow_end : slow<HasHalves> {
  using target = floats;
  pw::loss forward(pw::stage_context const& context, numbers const& w, floats const& x, target const&,
                   floats& s) const {
    floats y;
    slow<HasHalves>::forward(context, w, x, y, s);
    return {.value = 1};
  }
  void backward(auto& c, numbers const& w, floats& s, floats& dx, numbers& g) const {
    slow<HasHalves>::backward(c, w, s, floats(1), dx, g);
  }
  void backward_input(auto& c, numbers const& w, floats& s, floats& dx) const requires HasHalves {
    slow<HasHalves>::backward_input(c, w, s, floats(1), dx);
  }
  void backward_weight(auto& c, numbers const& w, floats& s, numbers& g) const requires HasHalves {
    slow<HasHalves>::backward_weight(c, w, s, floats(1), g);
  }
};

struct batch {
  void input(int, floats& x) const { x.assign(3, 1.f); }
  void target(int, floats& t) const { t.assign(2, 1.f); }
};

/// Adam, with 2 ms for a parameter.
struct slow_adam : pw::adam {
  template<class T>
  void update(pw::optimizer_step step, pw::parameter_options options, std::span<T const> newest,
              std::span<T const> gradient, std::span<T> fresh, std::array<std::span<T>, states> state) const {
    take(2);
    pw::adam::update(step, options, newest, gradient, fresh, state);
  }
};

template<bool HasHalves> void check() {
  std::vector<int> heard;
  auto const found = pw::profile_layers(
      pw::stages(slow<HasHalves>{3, 50, 20}, slow<HasHalves>{3, 60, 7}, slow_end<HasHalves>{{0, 70, 11}}), batch{}, 8,
      slow_adam{}, {.warm_up = 1, .micro_batches = 3, .progress = [&](int done, int all) {
                      CHECK(all == 8);
                      heard.push_back(done);
                    }});
  CHECK(heard == std::vector{1, 2, 3, 4, 5, 6, 7, 8});
  auto const bytes = [](double floats) { return 4 * floats; };
  CHECK(found.profile.samples == 8);
  CHECK(found.profile.input == bytes(3));
  CHECK(found.profile.target == bytes(2));
  REQUIRE(found.profile.count() == 3);
  CHECK(found.spread.size() == 3);
  double const kept[]{50, 60, 70}, parameters[]{20, 7, 11};
  for (std::size_t i = 0; i < 3; ++i) {
    auto const& l = found.profile.layers[i];
    CHECK(l.saved == bytes(kept[i]));
    CHECK(l.output == bytes(i < 2 ? 3 : 0));
    CHECK(l.parameters == bytes(parameters[i]));
    CHECK(l.gradients == l.parameters);
    CHECK(l.optimizer == 2 * l.parameters);
    CHECK(l.keeps_input == HasHalves);
    CHECK(l.forward >= 1e-3);
    CHECK(l.recompute >= 4e-3);
    CHECK(l.backward_input >= (HasHalves ? 2e-3 : 5e-3));
    if (HasHalves) CHECK(l.backward_weight >= 3e-3);
    else CHECK(l.backward_weight == 0);
    CHECK(l.update >= 2e-3);
  }
  pw::check(found.profile);
}

/// A pool that only says what it has given out.
struct pool {
  static inline thread_local std::int64_t out = 0, most = 0;
  static void give(std::int64_t bytes) {
    out += bytes;
    most = std::max(most, out);
  }
};
struct pool_meter {
  std::int64_t held() const { return pool::out; }
  std::int64_t most() const { return pool::most; }
  void restart() const { pool::most = pool::out; }
};
static_assert(pw::memory_meter<pool_meter>);
static_assert(!pw::memory_meter<pw::no_meter>);

/// Keeps bytes of the pool, and does not say so.
struct pooled_end : slow_end<true> {
  struct saved {
    floats own;
    std::unique_ptr<int> graph;
  };
  std::int64_t bytes, forward_beside, backward_beside;

  pw::loss forward(pw::stage_context const& context, numbers const& w, floats const& x, floats const& t,
                   saved& s) const {
    pool::give(forward_beside);
    pool::give(bytes);
    pool::give(-forward_beside);
    return slow_end<true>::forward(context, w, x, t, s.own);
  }
  void backward(auto& c, numbers const& w, saved& s, floats& dx, numbers& g) const {
    backward_input(c, w, s, dx);
    backward_weight(c, w, s, g);
  }
  void backward_input(auto& c, numbers const& w, saved& s, floats& dx) const {
    pool::give(backward_beside);
    pool::give(-bytes - backward_beside);
    slow_end<true>::backward_input(c, w, s.own, dx);
  }
  void backward_weight(auto& c, numbers const& w, saved& s, numbers& g) const {
    slow_end<true>::backward_weight(c, w, s.own, g);
  }
};

}  // namespace

TEST_CASE("a meter sees what saved values do not say, and the most that an action has beside") {
  auto const profile = [&]<class Meter>(std::type_identity<Meter>, pw::profile_options how, pooled_end last) {
    return pw::profile_layers<Meter>(pw::stages(slow<true>{3, 50, 20}, last), batch{}, 8, pw::sgd{.rate = 0}, how)
        .profile;
  };
  std::type_identity<pool_meter> const metered;
  for (auto const& [forward_beside, backward_beside] : {std::pair(1000, 600), std::pair(600, 1000)}) {
    int heard = 0;
    auto const found = profile(metered,
                               {.warm_up = 1,
                                .micro_batches = 2,
                                .progress =
                                    [&](int done, int all) {
                                      CHECK(all == 9);
                                      CHECK(done == ++heard);
                                    }},
                               {{{0, 70, 11}}, 400, forward_beside, backward_beside});
    CHECK(heard == 9);
    CHECK(found.layers[0].saved == 0);  // nothing of the pool
    CHECK(found.layers[0].workspace == 0);
    CHECK(found.layers[1].saved == 400);
    CHECK(found.layers[1].workspace == 1000);
    CHECK(found.layers[1].parameters == 44);
  }
  std::type_identity<pw::no_meter> const none;
  CHECK_THROWS_WITH_AS(profile(none, {}, {{{0, 70, 11}}, 400, 0, 0}),
                       doctest::Contains("layer 1 has saved values of a type that does not say what it is made of"),
                       pw::error);
}

TEST_CASE("links are measured one by one, and all ranks learn of all") {
  auto const between = [](int from, int to) -> pw::in_process::link {
    return from + to == 1 ? pw::in_process::link{.latency = 2e-3, .bandwidth = 1e8} : pw::in_process::link{};
  };
  for (int const ranks : {1, 2, 3}) {
    std::vector<std::vector<pw::device_link>> found(static_cast<std::size_t>(ranks));
    pw::in_process::run(ranks,
                        [&](auto& here) {
                          found[static_cast<std::size_t>(here.rank())] =
                              pw::profile_links(here, {.bytes = 1'000'000, .warm_up = 1, .rounds = 5});
                        },
                        {.link_between = between});
    for (auto const& links : found) {
      REQUIRE(links.size() == static_cast<std::size_t>(ranks > 2 ? ranks : ranks - 1));
      for (std::size_t i = 0; i < links.size(); ++i) {
        CHECK(links[i].from == static_cast<int>(i));
        CHECK(links[i].to == (links[i].from + 1) % ranks);
        CHECK(links[i].latency == found[0][i].latency);
        CHECK(links[i].bandwidth == found[0][i].bandwidth);
        if (i > 0) continue;
        CHECK(links[i].latency >= 2e-3);
        CHECK(links[i].bandwidth > 0);
        CHECK(links[i].latency + 1e6 / links[i].bandwidth >= 12e-3 * 0.999);  // what a large value takes
      }
    }
  }
  pw::in_process::run(
      2,
      [](auto& here) {  // one round trip of each size is there and back, and no more than all took
        auto const begun = std::chrono::steady_clock::now();
        auto const link = pw::profile_links(here, {.bytes = 1'000'000, .warm_up = 0, .rounds = 1}).front();
        auto const all = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
        if (here.rank() == 0) CHECK(2 * link.latency + 2 * (link.latency + (1e6 - 8) / link.bandwidth) <= all * 1.001);
      },
      {.link_between = between});
  pw::in_process::run(2, [](auto& here) {
    for (auto const& how :
         {pw::link_options{.bytes = 8}, pw::link_options{.rounds = 0}, pw::link_options{.warm_up = -1}})
      CHECK_THROWS_WITH_AS(pw::profile_links(here, how), doctest::Contains("links are measured with values of more"),
                           pw::error);
  });
}

TEST_CASE("layers whose backward has halves") { check<true>(); }
TEST_CASE("layers whose backward has none") { check<false>(); }

TEST_CASE("nothing to measure") {
  auto const profile = [](int samples, pw::profile_options how) {
    pw::profile_layers(pw::stages(slow<true>{3, 1, 1}, slow_end<true>{{0, 1, 1}}), batch{}, samples, pw::sgd{.rate = 0},
                       how);
  };
  auto const* const why =
      "a profile needs at least one sample and one micro-batch that is measured, and a warm-up of 0 or more";
  CHECK_THROWS_WITH_AS(profile(0, {}), why, pw::error);
  CHECK_THROWS_WITH_AS(profile(1, {.micro_batches = 0}), why, pw::error);
  CHECK_THROWS_WITH_AS(profile(1, {.warm_up = -1}), why, pw::error);
}

TEST_CASE("medians and quartiles") {
  CHECK(pw::detail::median({}) == 0);
  CHECK(pw::detail::median({3, 1, 2}) == 2);
  CHECK(pw::detail::median({1, 100, 2, 3, 4}) == 3);
  CHECK(pw::detail::quantile({1, 2, 3, 4, 5}, 0.25) == 2);
  CHECK(pw::detail::quantile({5, 4, 3, 2, 1}, 0.75) == 4);
}
