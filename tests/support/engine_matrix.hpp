// SPDX-License-Identifier: Apache-2.0
#pragma once
// Every mixture of the engine's options under the synchronous schedules: the same bits as on one rank, and as the oracle's.

#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/toy_model.hpp>
#include <support/train.hpp>

namespace support {

/// One mixture of options.
struct mixture {
  pw::pipeline_options options{};
  bool tied = false;
  int micro_batches = 4;

  pw::needs wants(int stages, pw::recompute_mode mode = pw::recompute_mode::never) const {
    pw::needs n{.recompute = mode, .step_facts = options.needs_step_facts()};
    if (tied) n.tied_first = 0, n.tied_second = stages - 1;
    return n;
  }
};

inline std::vector<mixture> all_mixtures() {
  std::vector<mixture> all;
  for (int micro_batches : {4, 5, 1})
    for (auto scale : {pw::loss_scale::mean, pw::loss_scale::sum, pw::loss_scale::per_token})
      for (double clip : {0.0, 0.25})
        for (bool tied : {false, true})
          for (int accumulate : {1, 2}) {
            mixture m{.options = {.seed = 11, .scale = scale, .clip = clip, .accumulate = accumulate},
                      .tied = tied,
                      .micro_batches = micro_batches};
            if (tied) m.options.tied = {"table", "head"};
            all.push_back(m);
          }
  return all;
}

inline auto toy_batches = [](int number) { return toys::toy_batch{number}; };

/// Runs the mixtures first, first + every, .. under each synchronous schedule on 1..4 ranks.
template<class T> void check_synchronous(int first, int every, pw::recompute_mode mode) {
  auto const mixtures = all_mixtures();
  auto const optimizer = pw::adamw({0.05, pw::rate_shape::cosine, 2, 6}, 0.1);
  for (std::size_t i = static_cast<std::size_t>(first); i < mixtures.size(); i += static_cast<std::size_t>(every)) {
    mixture const& m = mixtures[i];
    CAPTURE(i);
    // Evaluation before, between and after training changes nothing, so let every other mixture have some.
    run_of run{.calls = i / 2 % 2 == 0 ? "sssss" : "essesess", .options = m.options};
    pw::shape const one{.ranks = 1, .micro_batches = m.micro_batches, .chunks = 1};
    outcome const expected = train_serially(pw::weight_rule::synchronous, one, toys::toy_whole<T>(), toy_batches,
                                            optimizer, run, m.wants(1));
    REQUIRE(expected.losses.size() == 5);
    REQUIRE(expected.weights.size() == 7);
    REQUIRE(expected.updates == (m.options.accumulate == 1 ? 5 : 2));
    for (std::string_view schedule : {"sequential", "gpipe", "flush", "interleaved"})
      for (int ranks = 1; ranks <= 4; ++ranks) {
        CAPTURE(schedule);
        CAPTURE(ranks);
        int const chunks = schedule == "interleaved" ? 2 : 1;
        run.link.mode =
            (i + static_cast<std::size_t>(ranks)) % 2 == 0 ? pw::in_process::strict : pw::in_process::buffered;
        auto const plan = pw::make_plan(schedule, {.ranks = ranks, .micro_batches = m.micro_batches, .chunks = chunks},
                                        m.wants(ranks * chunks, mode));
        outcome const found = train_in_pipeline<T>(
            plan.view(), pw::recompute_each(toys::toy_stages<T>(ranks * chunks), mode), toy_batches, optimizer, run);
        CHECK(found.losses == expected.losses);
        CHECK(found.evaluations == expected.evaluations);
        CHECK(found.norms == expected.norms);
        CHECK(found.ranks_agree);
        CHECK(found.updates == expected.updates);
        CHECK(found.weights == expected.weights);
      }
  }
}

}  // namespace support
