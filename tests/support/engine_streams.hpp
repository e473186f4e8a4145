// SPDX-License-Identifier: Apache-2.0
#pragma once
// Every mixture of the engine's options under the asynchronous schedules: the bits of the oracle.

#include <set>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <support/engine_matrix.hpp>

namespace support {

struct stream_mixture {
  std::string_view schedule;
  pw::weight_rule rule;
  mixture with;
  std::string_view calls;
};

inline std::vector<stream_mixture> all_stream_mixtures() {
  std::vector<stream_mixture> all;
  std::string_view const scripts[]{"ssssss", "sdssdsss", "esseesdess", "sddsssde"};
  int next = 0;
  auto add = [&](std::string_view schedule, pw::weight_rule rule, mixture const& m) {
    all.push_back({schedule, rule, m, scripts[next++ % 4]});
  };
  for (int micro_batches : {3, 4, 7, 1})
    for (auto scale : {pw::loss_scale::mean, pw::loss_scale::sum, pw::loss_scale::per_token})
      for (double clip : {0.0, 0.25})
        for (auto scope : {pw::clip_scope::model, pw::clip_scope::stage})
          for (bool tied : {false, true}) {
            mixture m{.options = {.seed = 12, .scale = scale, .clip = clip, .clip_over = scope},
                      .tied = tied,
                      .micro_batches = micro_batches};
            if (tied) m.options.tied = {"table", "head"};
            if (tied && scope == pw::clip_scope::stage) continue;  // the two halves of a tie would be clipped apart
            if (!tied && !m.options.needs_step_facts()) add("1f1b", pw::weight_rule::stashing, m);
            add("1f1b-vsync", pw::weight_rule::vertical_sync, m);
            if (micro_batches >= 3) add("2bw", pw::weight_rule::double_buffered, m);  // legal for 4 ranks
          }
  return all;
}

/// Runs the mixtures first, first + every, .. on 1..4 ranks.
template<class T> void check_streams(int first, int every, pw::recompute_mode mode) {
  auto const mixtures = all_stream_mixtures();
  auto const optimizer = pw::adamw({0.02, pw::rate_shape::linear, 3, 60}, 0.1);
  std::set<std::string_view> seen;
  for (std::size_t i = static_cast<std::size_t>(first); i < mixtures.size(); i += static_cast<std::size_t>(every)) {
    auto const& [schedule, rule, m, calls] = mixtures[i];
    run_of run{.calls = calls, .options = m.options};
    seen.insert(schedule);
    for (int ranks = 1; ranks <= 4; ++ranks) {
      CAPTURE(i);
      CAPTURE(schedule);
      CAPTURE(calls);
      CAPTURE(ranks);
      pw::shape const shape{.ranks = ranks, .micro_batches = m.micro_batches, .chunks = 1};
      outcome const expected =
          train_serially(rule, shape, toys::toy_stages<T>(ranks), toy_batches, optimizer, run, m.wants(ranks));
      REQUIRE(expected.losses.size() >= 4);
      run.link.mode =
          (i + static_cast<std::size_t>(ranks)) % 2 == 0 ? pw::in_process::strict : pw::in_process::buffered;
      auto const plan = pw::make_plan(schedule, shape, m.wants(ranks, mode));
      outcome const found = train_in_pipeline<T>(plan.view(), pw::recompute_each(toys::toy_stages<T>(ranks), mode),
                                                 toy_batches, optimizer, run);
      CHECK(found.losses == expected.losses);
      CHECK(found.evaluations == expected.evaluations);
      CHECK(found.updates == expected.updates);
      CHECK(found.weights == expected.weights);
    }
  }
  CHECK(seen.size() == 3);
}

}  // namespace support
