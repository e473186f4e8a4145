// SPDX-License-Identifier: Apache-2.0
// What a planner promises and what comes of it: a host GPT-2 whose head weighs several blocks, on 2 ranks (threads). Its layers
// are profiled first, for the cut; then, for every schedule, again and again in turn: a short profile, and steps under the planner's
// cut and under the cut into equal numbers of layers, beside the times that this profile foretells of both. Goals: the planner's cut is never slower; the gain within 3 % of the
// predicted one; a step within 15 % of its prediction.
//   partition [--json] [--repeats N] [--vocabulary N] [--only SCHEDULE]
#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <benchmarks/support.hpp>

#include <pipewright/gpt2/model.hpp>
#include <pipewright/partition/cut_plan.hpp>
#include <pipewright/partition/step_time.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/profile/profile_layers.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/transport/in_process.hpp>

namespace {

namespace pw = pipewright;
using clock_type = std::chrono::steady_clock;
constexpr int ranks = 2, micro_batches = 8, sequences = 2, length = 64;
constexpr int warm_up = 2, measured = 4;  // steps

struct tokens {
  void input(int, pw::gpt2::token_batch& to) const {
    to.batch = {sequences, length};
    to.ids.assign(static_cast<std::size_t>(to.batch.tokens()), 3);
  }
  void target(int, pw::gpt2::token_batch& to) const { input(0, to); }
};

/// Of a step, on average once the first ones are done.
double seconds_of_steps(pw::plan_view plan, pw::gpt2::configuration const& sizes, std::vector<int> const& cut) {
  double seconds = 0;
  std::barrier all(ranks);
  pw::in_process::run(ranks, [&](auto& here) {
    auto training = pw::pipeline(plan, pw::balance(pw::gpt2::model(sizes), cut), here, pw::adam{.rate = 1e-4});
    for (int i = 0; i < warm_up; ++i) training.step(tokens{});
    if (!plan.is_stream()) all.arrive_and_wait();
    auto const begin = clock_type::now();
    for (int i = 0; i < measured; ++i) training.step(tokens{});
    if (!plan.is_stream()) all.arrive_and_wait();
    if (here.rank() == 0) seconds = std::chrono::duration<double>(clock_type::now() - begin).count() / measured;
    training.drain();
  });
  return seconds;
}

}  // namespace

int main(int argc, char** argv) try {
  bool json = false;
  int repeats = 5, vocabulary = 8192;
  std::string_view only;
  for (int i = 1; i < argc; ++i) {
    std::string_view const option = argv[i];
    if (option == "--json") json = true;
    else if (option == "--repeats" && i + 1 < argc) repeats = std::atoi(argv[++i]);
    else if (option == "--vocabulary" && i + 1 < argc) vocabulary = std::atoi(argv[++i]);
    else if (option == "--only" && i + 1 < argc) only = argv[++i];
    else throw pw::error("usage: partition [--json] [--repeats N] [--vocabulary N] [--only SCHEDULE]");
  }
  if (repeats < 1 || vocabulary < 4) throw pw::error("--repeats is at least 1, --vocabulary at least 4");
  auto const& known = benchmarks::training_schedules;
  if (!only.empty() && std::find(std::begin(known), std::end(known), only) == std::end(known))
    throw pw::error("there is no schedule " + std::string(only) + " that trains");
  pw::gpt2::configuration const sizes{
      .vocabulary = vocabulary, .positions = length, .width = 128, .heads = 4, .layers = 10};
  int const layers = pw::gpt2::layer_count(sizes);
  auto const profile_of = [&](int micro_batches_measured) {
    return pw::profile_layers(
               pw::balance(pw::gpt2::model(sizes), std::vector<int>(static_cast<std::size_t>(layers), 1)), tokens{},
               sequences, pw::adam{.rate = 1e-4}, {.warm_up = 2, .micro_batches = micro_batches_measured})
        .profile;
  };
  auto const profile = profile_of(20);
  double const block = profile.layers[1].work(), head = profile.layers.back().work();
  if (!json) std::printf("a block takes %.3g ms for a micro-batch, the head %.2f blocks\n", 1e3 * block, head / block);
  bool first = true;
  for (auto const schedule : benchmarks::training_schedules) {
    if (!only.empty() && only != schedule) continue;
    auto const plan = pw::make_plan(schedule, {.ranks = ranks, .micro_batches = micro_batches});
    pw::plan_view const view = plan.view();
    pw::cluster const on{.ranks = ranks};
    std::vector<int> const equal(static_cast<std::size_t>(view.stages()), layers / view.stages()),
        planned = pw::cut_plan(view, profile, on)->sizes;
    std::vector<double> ours, equals, gain, ours_foretold, equals_foretold, gain_foretold, off;
    for (int i = 0; i < repeats; ++i) {  // in turn, since machines drift
      auto const now = profile_of(6);
      ours_foretold.push_back(pw::time_of_step(view, now, planned, on).total());
      equals_foretold.push_back(pw::time_of_step(view, now, equal, on).total());
      if (i % 2 == 0) ours.push_back(seconds_of_steps(view, sizes, planned));
      equals.push_back(seconds_of_steps(view, sizes, equal));
      if (i % 2 != 0) ours.push_back(seconds_of_steps(view, sizes, planned));
      gain.push_back(equals.back() / ours.back());
      gain_foretold.push_back(equals_foretold.back() / ours_foretold.back());
      off.push_back(ours.back() / ours_foretold.back());
    }
    double const step = benchmarks::median(ours), other = benchmarks::median(equals);
    double const foretold[]{benchmarks::median(ours_foretold), benchmarks::median(equals_foretold)};
    std::string cut;
    for (int const n : planned) cut += (cut.empty() ? "" : ",") + std::to_string(n);
    std::printf(
        json ? "%s{\"schedule\": \"%s\", \"cut\": \"%s\", \"head_over_block\": %.4f, \"planned_s\": %.6f, "
               "\"planned_foretold_s\": %.6f, \"equal_s\": %.6f, \"equal_foretold_s\": %.6f, \"gain\": %.4f, "
               "\"gain_foretold\": %.4f, \"step_over_foretold\": %.4f}"
             : "%s%-12s cut %-8s (head %.2f blocks): step %.1f ms, foretold %.1f; equal layers %.1f ms, foretold "
               "%.1f; gain %.3f, foretold %.3f; step over foretold %.3f\n",
        !json   ? ""
        : first ? "["
                : ",\n ",
        schedule.data(), cut.c_str(), head / block, json ? step : 1e3 * step, json ? foretold[0] : 1e3 * foretold[0],
        json ? other : 1e3 * other, json ? foretold[1] : 1e3 * foretold[1], benchmarks::median(gain),
        benchmarks::median(gain_foretold), benchmarks::median(off));
    std::fflush(stdout);
    first = false;
  }
  if (json) std::printf("]\n");
} catch (std::exception const& fault) {
  std::fprintf(stderr, "partition: %s\n", fault.what());
  return 1;
}
