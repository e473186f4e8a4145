// SPDX-License-Identifier: Apache-2.0
// The planner against what is known of schedules, against all cuts there are, and against its own promises.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/partition/all.hpp>

namespace pw = pipewright;
using state = pw::plan_candidate::state;

namespace {

/// Layers alike: forward 1, backward 2, a byte of everything.
pw::model_profile alike(int layers) {
  pw::model_profile p;
  for (int i = 0; i < layers; ++i)
    p.layers.push_back({.name = "block",
                        .forward = 1,
                        .backward_input = 1,
                        .backward_weight = 1,
                        .recompute = 1,
                        .saved = 1,
                        .output = 1,
                        .parameters = 1,
                        .gradients = 1,
                        .optimizer = 2});
  return p;
}

struct drawn {
  pw::model_profile profile;
  pw::cluster on;
  pw::plan_choices among;

  explicit drawn(unsigned seed) {
    std::mt19937 engine(seed);
    auto const number = [&](double most) { return most * static_cast<double>(engine() % 1000) / 999; };
    int const layers = 2 + static_cast<int>(engine() % 7);
    for (int i = 0; i < layers; ++i) {
      double const forward = 0.1 + number(2);
      profile.layers.push_back({.forward = forward,
                                .backward_input = number(3),
                                .backward_weight = number(3),
                                .recompute = forward,
                                .update = number(0.5),
                                .saved = number(8),
                                .output = number(2),
                                .parameters = number(5),
                                .gradients = number(5),
                                .optimizer = number(10),
                                .keeps_input = engine() % 2 == 0});
    }
    on.ranks = 1 + static_cast<int>(engine() % 4);
    on.latency = number(0.2);
    on.bandwidth = 0.5 + number(20);
    if (engine() % 3 == 0)
      for (int r = 0; r < on.ranks; ++r) on.pace.push_back(1 + number(1));
    if (engine() % 2 == 0) on.memory = 10 + number(150);
    if (engine() % 3 == 0)
      for (int r = 0; r + 1 < on.ranks; r += 2) on.links.push_back({r + 1, r, number(0.2), 0.5 + number(20)});
    among.batch = 1 + static_cast<int>(engine() % 12);
    among.most_chunks = 3;
    among.worth_simulating = 1000;
  }
};

/// Of a batch: when the last rank has done its last action and its stages' updates, one layer after the other.
double end_of_step(pw::plan_view plan, pw::model_profile const& of, std::vector<int> const& sizes,
                   pw::cluster const& on) {
  auto const times = pw::simulate(plan, pw::costs_of(plan, of, sizes, on));
  double end = 0;
  for (int r = 0; r < plan.facts.ranks; ++r) {
    double here = 0;
    for (auto const& span : times.spans.view()[r]) here = std::max(here, span.end);
    std::size_t layer = 0;
    for (int s = 0; s < plan.stages(); ++s)
      for (int i = 0; i < sizes[static_cast<std::size_t>(s)]; ++i, ++layer)
        if (plan.rank_of_stage[s] == r)
          here += of.layers[layer].update * (on.pace.empty() ? 1 : on.pace[static_cast<std::size_t>(r)]);
    end = std::max(end, here);
  }
  return end;
}

pw::dynamic_plan plan_of(pw::plan_candidate const& c) {
  return pw::make_plan(c.schedule, c.facts, {.recompute = c.recompute});
}

}  // namespace

TEST_CASE("where layers are alike and links cost nothing, steps take what the field's formulas say") {
  for (int const ranks : {1, 2, 4, 8})
    for (int const batch : {8, 16, 32}) {
      CAPTURE(ranks);
      CAPTURE(batch);
      auto const ranking = pw::rank_plans(alike(16), {.ranks = ranks},
                                          {.batch = batch, .samples = {1}, .most_chunks = 2, .worth_simulating = 1000});
      double const share = 3. * 16 / ranks;  // of a micro-batch
      CHECK(ranking.bound == doctest::Approx(share * batch));
      int seen = 0;
      for (auto const& c : ranking.candidates) {
        REQUIRE(c.is == state::fits);
        bool const again = c.recompute == pw::recompute_mode::always;
        double const each = again ? share * 4 / 3 : share;
        double const fill = c.schedule == "flush" || c.schedule == "gpipe" ? ranks - 1
                            : c.schedule == "interleaved"                  ? (ranks - 1) / 2.
                                                                           : 0;
        // A second forward waits for no gradient: all ranks but the last run theirs while others work.
        if (c.schedule == "sequential") CHECK(c.seconds() == doctest::Approx((share * ranks + each - share) * batch));
        else if (!(again && fill > 0)) CHECK(c.seconds() == doctest::Approx(each * (batch + fill)));
        CHECK(c.time.work == doctest::Approx(share * batch));
        CHECK(c.time.recompute == doctest::Approx(again ? share / 3 * batch : 0));
        CHECK(c.time.imbalance == doctest::Approx(0));
        CHECK(c.time.communication == doctest::Approx(0));
        ++seen;
      }
      CHECK(seen == 2 * 7);  // schedules that train
    }
}

TEST_CASE("an update takes its time after each micro-batch, or at the end of a batch") {
  auto with = alike(4);
  for (auto& l : with.layers) l.update = 0.5;
  pw::cluster const on{.ranks = 2};
  std::vector<int> const cut{2, 2};
  for (std::string const schedule : {"sequential", "gpipe", "flush", "1f1b", "1f1b-vsync", "2bw"}) {
    CAPTURE(schedule);
    auto const plan = pw::make_plan(schedule, {.ranks = 2, .micro_batches = 8});
    auto const before = pw::time_of_step(plan, alike(4), cut, on), now = pw::time_of_step(plan, with, cut, on);
    int const updates = schedule.starts_with("1f1b") ? 8 : 1;
    CHECK(now.total() == doctest::Approx(before.total() + updates * 2 * 0.5));
    CHECK(now.work == doctest::Approx(before.work + updates * 2 * 0.5));
  }
}

TEST_CASE("a cut counts updates") {
  auto p = alike(4);
  p.layers[3].update = 9;
  auto const cut = [&](std::string const& schedule) {
    return pw::cut_plan(pw::make_plan(schedule, {.ranks = 2, .micro_batches = 9}), p, {.ranks = 2})->sizes;
  };
  CHECK(cut("1f1b") == std::vector{3, 1});   // 9 and 12 for a micro-batch; 2,2 has 15
  CHECK(cut("flush") == std::vector{2, 2});  // 6 and 7
}

TEST_CASE("what passes between a stage's layers is kept where the next layer keeps its input") {
  auto p = alike(5);
  for (std::size_t i = 0; i < 5; ++i) p.layers[i].output = std::pow(10., static_cast<double>(i));
  p.layers[0].keeps_input = p.layers[1].keeps_input = p.layers[3].keeps_input = p.layers[4].keeps_input = true;
  auto const stages = pw::stages_of(p, {3, 2});
  CHECK(stages[0].saved == 3);
  CHECK(stages[0].between == 1);  // into layer 1; layer 2 keeps nothing, and layer 0's is the stage's input
  CHECK(stages[1].saved == 2);
  CHECK(stages[1].between == 1000);  // into layer 4; layer 3's is the stage's input
  p.layers[1].workspace = 500;
  p.layers[2].workspace = 30;
  p.layers[4].workspace = 7;
  CHECK(pw::stages_of(p, {5})[0].workspace == 2007);  // layer 4's, and two gradients of 1000 that pass
  CHECK(pw::stages_of(p, {4, 1})[1].workspace == 7);  // these have slots
  CHECK(pw::stages_of(p, {1, 1, 3})[1].workspace == 500);
  CHECK(pw::stages_of(p, {3, 2})[0].workspace == 502);  // 500 and two of 1, which is more than 30 and two of 10
  pw::detail::layer_sums const sums(p);
  for (int first = 0; first < 5; ++first)
    for (int last = first + 1; last <= 5; ++last) {
      std::vector<int> cut;
      for (int const size : {first, last - first, 5 - last})
        if (size > 0) cut.push_back(size);
      auto const expected = pw::stages_of(p, cut)[first > 0 ? 1 : 0];
      CHECK(sums.stage(first, last).saved == expected.saved);
      CHECK(sums.stage(first, last).between == expected.between);
      CHECK(sums.stage(first, last).workspace == expected.workspace);
    }
}

TEST_CASE("the ranking keeps its promises") {
  int fitting = 0, tight = 0;
  for (unsigned seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    drawn const d(seed);
    auto const ranking = pw::rank_plans(d.profile, d.on, d.among);
    double last = 0;
    for (auto const& c : ranking.candidates) {
      CAPTURE(c.schedule);
      REQUIRE(c.facts.micro_batches * c.samples == d.among.batch);
      REQUIRE(std::accumulate(c.sizes.begin(), c.sizes.end(), 0) == d.profile.count());
      auto const plan = plan_of(c);
      auto const of = pw::scaled(d.profile, c.samples);
      auto const memory = pw::memory_of_ranks(plan, of, c.sizes);
      double most = 0;
      for (auto const& each : memory) most = std::max(most, each.total());
      CHECK(most == c.most_memory());
      CHECK((most <= d.on.memory) == (c.is == state::fits));
      if (c.is != state::fits) {
        ++tight;
        continue;
      }
      ++fitting;
      CHECK(c.seconds() >= last - 1e-12);
      last = c.seconds();
      CHECK(c.seconds() >= c.seconds_at_least * (1 - 1e-9));
      CHECK(c.seconds() >= ranking.bound * (1 - 1e-9));
      for (double const part : {c.time.work, c.time.recompute, c.time.imbalance, c.time.bubble, c.time.communication})
        CHECK(part >= -1e-9 * c.seconds());
      if (!pw::plan_view(plan).is_stream()) CHECK(c.seconds() == doctest::Approx(end_of_step(plan, of, c.sizes, d.on)));
    }
  }
  CHECK(fitting > 1000);
  CHECK(tight > 1000);
}

TEST_CASE("with one stage a rank no cut has a cheaper dearest rank, and one is found where there is any") {
  for (unsigned seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    drawn const d(seed);
    for (auto const& c : pw::rank_plans(d.profile, d.on, d.among).candidates) {
      if (c.facts.chunks != 1) continue;
      CAPTURE(c.schedule);
      auto const plan = plan_of(c);
      auto const of = pw::scaled(d.profile, c.samples);
      // A rank's work for a micro-batch, with its share of an update, or a transfer at its ends.
      int const per_update = c.schedule.starts_with("1f1b") ? 1 : c.facts.micro_batches;
      auto const dearest = [&](std::vector<int> const& sizes) {
        double most = 0;
        std::size_t layer = 0;
        for (std::size_t s = 0; s < sizes.size(); ++s) {
          double work = 0;
          for (int i = 0; i < sizes[s]; ++i, ++layer)
            work += of.layers[layer].work() + of.layers[layer].update / per_update +
                    (c.recompute == pw::recompute_mode::always ? of.layers[layer].recompute : 0);
          most = std::max(most, work * d.on.pace_of(static_cast<int>(s)));
          if (layer == of.layers.size()) continue;
          bool const differs = s % 2 == 0 && !d.on.links.empty();
          most = std::max(most, of.layers[layer - 1].output / (differs ? d.on.links[s / 2].bandwidth : d.on.bandwidth));
        }
        return most;
      };
      double best = std::numeric_limits<double>::infinity(), leanest = best;
      std::vector<int> ends(of.layers.size() - 1);
      std::fill(ends.begin(), ends.begin() + d.on.ranks - 1, 1);
      do {
        std::vector<int> sizes{1};
        for (int const end : ends)
          if (end == 1) sizes.push_back(1);
          else ++sizes.back();
        double most = 0;
        for (auto const& each : pw::memory_of_ranks(plan, of, sizes)) most = std::max(most, each.total());
        leanest = std::min(leanest, most);
        if (most <= d.on.memory) best = std::min(best, dearest(sizes));
      } while (std::prev_permutation(ends.begin(), ends.end()));
      CHECK((c.is == state::fits) == std::isfinite(best));
      if (c.is == state::fits) CHECK(dearest(c.sizes) == doctest::Approx(best));
      else CHECK(c.most_memory() == doctest::Approx(leanest));
    }
  }
}

TEST_CASE("each link carries as fast as it is said to, whichever rank sends") {
  pw::model_profile const of = alike(3);
  pw::shape const s{.ranks = 3, .micro_batches = 1};
  auto const seconds = [&](pw::cluster on) {
    on.ranks = 3;
    return pw::time_of_step(pw::make_plan<pw::gpipe>(s), of, {1, 1, 1}, on);
  };
  // One micro-batch goes up and down over both links; a layer takes 3.
  CHECK(seconds({}).total() == doctest::Approx(9));
  CHECK(seconds({.bandwidth = 2, .latency = 0.25}).communication == doctest::Approx(4 * 0.75));
  pw::cluster const one_slow{.bandwidth = 2, .latency = 0.25, .links = {{2, 1, 0.5, 0.125}}};
  CHECK(seconds(one_slow).communication == doctest::Approx(2 * 0.75 + 2 * 8.5));
  CHECK(seconds(one_slow).total() == doctest::Approx(9 + 2 * 0.75 + 2 * 8.5));
  // What passes behind layer 1 is ten times as much: the slow link is not put there.
  pw::model_profile wide = alike(4);
  wide.layers[1].output = 10;
  auto const plan = pw::make_plan<pw::gpipe>({.ranks = 2, .micro_batches = 4});
  CHECK(pw::cut_plan(plan, wide, {.ranks = 2})->sizes == std::vector{2, 2});
  CHECK(pw::cut_plan(plan, wide, {.ranks = 2, .links = {{0, 1, 0, 1}}})->sizes == std::vector{3, 1});
  CHECK(pw::cut_plan(plan, wide, {.ranks = 2, .links = {{1, 2, 0, 1}}})->sizes == std::vector{2, 2});
  // The wide boundary goes over the fast link, where there is one.
  pw::model_profile waist = alike(6);
  waist.layers[3].output = 40;
  auto const three = pw::make_plan<pw::gpipe>({.ranks = 3, .micro_batches = 4});
  auto const cut = [&](double first, double second) {
    return pw::cut_plan(three, waist, {.ranks = 3, .links = {{0, 1, 0, first}, {1, 2, 0, second}}})->sizes;
  };
  CHECK(cut(0.5, 100) == std::vector{2, 2, 2});
  CHECK(cut(100, 0.5) != std::vector{2, 2, 2});
  // Two stages of one rank have no link between them.
  auto const alone = pw::make_plan<pw::interleaved<2>>({.ranks = 1, .micro_batches = 4, .chunks = 2});
  CHECK(pw::cut_plan(alone, wide, {.bandwidth = 0.01})->sizes == std::vector{2, 2});
  for (auto const& [link, why] :
       {std::pair(pw::device_link{0, 1, 0, 0}, "more than 0 bytes"), std::pair(pw::device_link{0, 1, -1}, "0 seconds"),
        std::pair(pw::device_link{1, 1}, "two different ranks, not 1 and 1")})
    CHECK_THROWS_WITH_AS(pw::rank_plans(of, {.ranks = 2, .links = {link}}, {.batch = 4}), doctest::Contains(why),
                         pw::error);
  CHECK_THROWS_WITH_AS(pw::rank_plans(of, {.ranks = 2, .links = {{0, 1}, {1, 0}}}, {.batch = 4}),
                       "a cluster has one link between ranks 1 and 0, not several", pw::error);
}

TEST_CASE("what is left out cannot win") {
  for (unsigned seed = 0; seed < 100; ++seed) {
    CAPTURE(seed);
    drawn d(seed);
    auto const all = pw::rank_plans(d.profile, d.on, d.among);
    d.among.worth_simulating = 1;
    d.among.not_worth = 0;
    auto const few = pw::rank_plans(d.profile, d.on, d.among);
    REQUIRE((all.best() == nullptr) == (few.best() == nullptr));
    if (all.best() != nullptr) CHECK(few.best()->seconds() == doctest::Approx(all.best()->seconds()));
    REQUIRE(all.candidates.size() == few.candidates.size());
  }
}

TEST_CASE("a cut that is not proven the best says how far off it may be") {
  int unproven = 0, limited = 0;
  for (unsigned seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    std::mt19937 engine(seed);
    auto p = alike(14);
    for (auto& l : p.layers) l.forward = 1. + double(engine() % 20), l.saved = double(engine() % 10);
    auto const plan = pw::make_plan<pw::interleaved<2>>({.ranks = 3, .micro_batches = 6, .chunks = 2});
    auto const dearest = [&](std::vector<int> const& sizes) {
      std::vector<double> ranks(3);
      for (std::size_t s = 0, layer = 0; s < 6; ++s)
        for (int i = 0; i < sizes[s]; ++i) ranks[s % 3] += p.layers[layer++].work();
      return *std::max_element(ranks.begin(), ranks.end());
    };
    pw::cluster on{.ranks = 3};
    auto const best = *pw::cut_plan(plan, p, on, 10'000'000), hasty = *pw::cut_plan(plan, p, on, 3);
    CHECK(best.gap == 0);
    CHECK(dearest(best.sizes) >= dearest(hasty.sizes) * (1 - hasty.gap) - 1e-9);
    unproven += hasty.gap > 0;
    on.memory = pw::detail::dearest_memory(pw::memory_of_ranks(plan, p, best.sizes)) - 1;
    auto const within = pw::cut_plan(plan, p, on, 10'000'000);
    if (!within) continue;
    CHECK(within->gap == doctest::Approx(1 - dearest(best.sizes) / dearest(within->sizes)));
    ++limited;
  }
  CHECK(unproven > 20);
  CHECK(limited > 10);
}

TEST_CASE("streams are simulated for as many micro-batches as fill them, which is counted") {
  auto const left_out = [](long long most_actions) {
    auto const ranking = pw::rank_plans(alike(16), {.ranks = 16},
                                        {.batch = 1,
                                         .schedules = {"flush", "1f1b"},
                                         .recompute = {pw::recompute_mode::never},
                                         .most_chunks = 1,
                                         .most_actions = most_actions});
    return std::count_if(ranking.candidates.begin(), ranking.candidates.end(),
                         [](auto const& c) { return c.is == state::not_looked; });
  };
  CHECK(left_out(2 * 16 * (1 + 4 * 16)) == 0);
  CHECK(left_out(2 * 16 * (1 + 4 * 16) - 1) == 1);
  CHECK(left_out(2 * 16 - 1) == 2);
}

TEST_CASE("many devices") {
  auto const ranking = pw::rank_plans(alike(128), {.ranks = 128, .bandwidth = 10, .latency = 0.001},
                                      {.batch = 128, .worth_simulating = 1});
  REQUIRE(ranking.best() != nullptr);
  CHECK(ranking.best()->seconds() >= ranking.bound);
}

TEST_CASE("what is no question gets no answer") {
  auto profile = alike(4);
  profile.layers[2].name = "head";
  profile.layers[2].saved = -1;
  CHECK_THROWS_WITH_AS(pw::rank_plans(profile, {.ranks = 2}, {.batch = 4}),
                       "layer 2 (head) of the profile: saved is a number from 0 to 1e30, not -1.000000", pw::error);
  CHECK_THROWS_WITH_AS(pw::rank_plans(alike(4), {.ranks = 2, .pace = {1}}, {.batch = 4}),
                       "a cluster of 2 ranks has a pace for each of them or none, not 1", pw::error);
  CHECK_THROWS_AS(pw::rank_plans(alike(4), {.ranks = 0}, {.batch = 4}), pw::error);
  CHECK_THROWS_AS(pw::rank_plans(alike(4), {.ranks = 2}, {.batch = 0}), pw::error);
  CHECK_THROWS_AS(pw::rank_plans({}, {.ranks = 2}, {.batch = 4}), pw::error);
  CHECK(pw::rank_plans(alike(2), {.ranks = 3}, {.batch = 4}).candidates.empty());
  // Numbers without measure: nothing is counted through to them.
  auto const large = pw::rank_plans(alike(2), {.ranks = 2}, {.batch = 2'147'483'647, .most_chunks = 2'147'483'647});
  CHECK(large.candidates.size() > 0);
  CHECK(pw::rank_plans(alike(2), {.ranks = 2'147'483'647}, {.batch = 4}).candidates.empty());
}
