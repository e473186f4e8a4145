// SPDX-License-Identifier: Apache-2.0
// Question: I have measured my model; on these devices, which cut, schedule, micro-batch and recomputation are the fastest, and why?
// Exit code 0: there is a plan; 1: nothing fits; 2: the question cannot be answered, and why.
#include <algorithm>
#include <cstdio>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <unistd.h>

#include "schedule_planner/pictures.hpp"
#include "schedule_planner/report.hpp"
#include "tool/answer.hpp"
#include "tool/files.hpp"
#include "tool/schedule_names.hpp"

namespace {

namespace pw = pipewright;

int run(int argc, char** argv) {
  CLI::App app("Finds the fastest pipeline for a profiled model on a cluster, and says why.", "schedule_planner");
  app.footer(
      "Example: schedule_planner profile.json --devices 4 --memory 80GiB --link 400GB/s,5us --batch 32 --draw plan");
  std::string file, memory, link, prefix, emit;
  std::vector<std::string> schedules, recompute{"never", "always"};
  std::vector<double> paces;
  pw::plan_choices among;
  pw::cluster on;
  std::size_t top = 10;
  bool as_json = false;
  app.add_option("PROFILE", file, "A model's profile, a JSON file; - reads the standard input")->required();
  app.add_option("-d,--devices", on.ranks, "Ranks of the pipeline, a device each")->required();
  app.add_option("--memory", memory, "What a rank may hold, as 80GiB; without it, anything");
  app.add_option(
      "--link", link,
      "Bandwidth and latency between ranks, as 400GB/s,5us; without it, the profile's, or links that cost nothing");
  app.add_option("--pace", paces, "How many times as long each rank's device takes as the profile says, as 1,1,2,1")
      ->delimiter(',');
  app.add_option("-b,--batch", among.batch, "Samples of a step, over all micro-batches (32)")->default_val(32);
  app.add_option("--micro-batch", among.samples,
                 "Samples of a micro-batch to choose from, as 1,2,4; without it, all that divide the batch")
      ->delimiter(',');
  app.add_option("--schedules", schedules, "To choose from, as flush,interleaved; without it, all that train")
      ->delimiter(',');
  app.add_option("--recompute", recompute, "To choose from: never, except_last, always (never,always)")
      ->delimiter(',')
      ->check(CLI::IsMember({"never", "except_last", "always"}));
  app.add_option("--most-chunks", among.most_chunks, "Stages of a rank at most, for schedules that have several")
      ->default_val(4);
  app.add_option("--most-actions", among.most_actions,
                 "Forwards and backwards to simulate of a plan at most; larger plans are left out, and said")
      ->default_val(4'000'000)
      ->check(CLI::Range(1LL, 1'000'000'000LL));
  app.add_option("--balance", among.sizes, "A cut to judge instead of the best, as 4,3,3,4")->delimiter(',');
  app.add_option("--top", top, "Lines of the table")->default_val(10);
  app.add_flag("--json", as_json, "All candidates as JSON instead of the table");
  app.add_option("--draw", prefix,
                 "Write the timelines of the best three and a chart of memory to PREFIX-1.svg, ..., PREFIX-memory.svg");
  app.add_option("--emit", emit,
                 "Write the best as C++ and as train_gpt2's options to a file; - is the standard output");
  try {
    app.parse(argc, argv);
  } catch (CLI::Success const& e) {
    return app.exit(e);
  } catch (CLI::ParseError const& e) {
    throw pw::error(std::string(e.what()) + "; see schedule_planner --help");
  }
  if (among.most_chunks < 1) throw pw::error("--most-chunks is 1 or more");
  for (int const samples : among.samples)
    if (samples < 1 || among.batch % samples != 0)
      throw pw::error(fmt::format("--micro-batch {} does not divide --batch {}", samples, among.batch));
  for (auto const& name : schedules) {
    auto const known = tool::schedule_names();
    if (std::find(known.begin(), known.end(), name) == known.end()) tool::refuse_name(name);
  }
  auto const read = planner::read_profile(tool::read_file(file), tool::name_of_file(file));
  if (!memory.empty()) on.memory = planner::parse_bytes(memory, "--memory");
  if (!link.empty()) {
    planner::parse_link(link, on);
  } else {
    std::copy_if(read.links.begin(), read.links.end(), std::back_inserter(on.links),
                 [&](auto const& each) { return std::max(each.from, each.to) < on.ranks; });
    if (auto const beyond = read.links.size() - on.links.size(); beyond > 0)
      fmt::print(stderr, "schedule_planner: {} of the profile's {} links {} ranks beyond --devices {}; left out\n",
                 beyond, read.links.size(), beyond == 1 ? "joins" : "join", on.ranks);
    if (read.link) on.latency = read.link->latency, on.bandwidth = read.link->bandwidth;
  }
  on.pace = paces;
  if (!among.sizes.empty() && (std::accumulate(among.sizes.begin(), among.sizes.end(), 0LL) != read.profile.count() ||
                               *std::min_element(among.sizes.begin(), among.sizes.end()) < 1))
    throw pw::error(
        fmt::format("--balance {} must give every stage at least one of the profile's {} layers, and all of them",
                    fmt::join(among.sizes, ","), read.profile.count()));
  among.schedules = schedules;
  among.recompute.clear();
  for (auto const& mode : recompute)
    among.recompute.push_back(mode == "never"    ? pw::recompute_mode::never
                              : mode == "always" ? pw::recompute_mode::always
                                                 : pw::recompute_mode::except_last);
  among.worth_simulating = static_cast<int>(std::min<std::size_t>(std::max<std::size_t>(top, 1), 10'000));

  bool const shows = isatty(STDERR_FILENO) == 1;
  planner::answer const found{
      read, on, among, pw::rank_plans(read.profile, on, among, [&](std::size_t done, std::size_t all) {
        if (shows)
          fmt::print(stderr, "\r{}",
                     done < all ? fmt::format("{} of {} candidates", done, all) : std::string("\x1b[K"));
      })};
  if (as_json) tool::print(planner::json_of(found).dump(2) + "\n");
  if (found.ranking.best() == nullptr) {
    tool::finish_printing();
    fmt::print(stderr, "schedule_planner: {}\n", planner::no_plan(found));
    return 1;
  }
  auto const& best = *found.ranking.best();
  if (!as_json) tool::print(planner::table(found, top) + "\ntrain_gpt2 " + planner::flags_of(best) + "\n");
  if (!emit.empty()) {
    auto const text = planner::code_of(best) + "// train_gpt2 " + planner::flags_of(best) + "\n";
    if (emit == "-") tool::print(text);
    else pw::write_file(emit, [&](auto&& append) { append(text); });
  }
  if (!prefix.empty())
    for (auto const& name : planner::draw(found, prefix, 3)) fmt::print(stderr, "wrote {}\n", name);
  tool::finish_printing();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return tool::answer("schedule_planner",
                      "there is not enough memory for this question; ask for fewer devices or a smaller batch", run,
                      argc, argv);
}
