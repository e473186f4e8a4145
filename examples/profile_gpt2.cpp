// SPDX-License-Identifier: Apache-2.0
// Question: what do my model's layers cost, and the links between my ranks? Measures those of a GPT-2 on this machine and writes a
// profile for schedule_planner.
// Exit code 0: done; 2: it cannot be done, and why.
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <pipewright/gpt2/model.hpp>
#include <pipewright/launch/launch.hpp>
#include <pipewright/profile/profile_layers.hpp>
#include <pipewright/profile/profile_links.hpp>
#include <pipewright/trace/write_file.hpp>

#include "schedule_planner/profile_file.hpp"
#include "tool/answer.hpp"
#include "tool/files.hpp"
#include "train_gpt2/layer_profile.hpp"
#include "train_gpt2/libtorch_half.hpp"
#include "train_gpt2/request.hpp"
#include "train_gpt2/start.hpp"
#include "train_gpt2/told_to_end.hpp"

namespace {

namespace pw = pipewright;

/// Which rank of a launcher's job this is, and the links of all of them.
struct measured_links {
  int rank = 0;
  std::vector<pw::device_link> links;
};

/// Measures links with values of so many bytes. The job is over then: only rank 0 has more to do.
measured_links links_over(std::string const& transport, std::size_t bytes, double deadline) {
  auto const place = pw::launch::find_place();
  trainer::request job;
  job.transport = transport;
  job.ranks = place.size;
  job.deadline = deadline;
  if (job.ranks < 2)
    throw pw::error(
        fmt::format("--links {0} measures what lies between ranks, and there is one; start several: {1} 2 "
                    "profile_gpt2 --links {0}",
                    transport, transport == "mpi" ? "mpirun -np" : "pipewright-run -n"));
  if (transport == "gloo") trainer::load_libtorch_half("--links gloo");  // or says that it cannot
  if (transport == "mpi" && place.from == pw::launch::source::torchrun)
    throw pw::error(
        fmt::format("--links mpi measures what lies between the processes of MPI's launcher; start them with "
                    "mpirun -np {} profile_gpt2 --links mpi",
                    place.size));
  // Where something goes wrong, ended after main() has said what.
  static std::unique_ptr<trainer::processes const> ranks;
  ranks = trainer::processes_of(job);
  measured_links found{.rank = ranks->rank(), .links = {}};
  ranks->run(job, {}, [&](trainer::endpoint& here) {
    found.links = pw::profile_links(here, {.bytes = bytes});
    return trainer::share{};
  });
  ranks.reset();
  trainer::obey_signals();  // nobody has to be told any more
  return found;
}

/// What a plan may rely on between any two ranks.
pw::device_link slowest_of(std::vector<pw::device_link> const& links) {
  auto slowest = links.front();
  for (auto const& each : links) {
    slowest.latency = std::max(slowest.latency, each.latency);
    slowest.bandwidth = std::min(slowest.bandwidth, each.bandwidth);
  }
  return slowest;
}

int run(int argc, char** argv) {
  CLI::App app("Measures what the layers of a GPT-2 take and hold on this machine.", "profile_gpt2");
  app.footer(
      "Example: profile_gpt2 --model small --sequences 4 -o small.json; schedule_planner small.json --devices 2");
  std::string model = "small", backend = "host", output = "-", optimizer = "adam", links;
  int sequences = 4, length = 0;
  double deadline = 60;
  pw::profile_options how;
  app.option_defaults()->always_capture_default();
  app.add_option("--model", model,
                 "tiny, small, medium, gpt2, or sizes: layers=8,width=64,heads=4,positions=64,vocabulary=256");
  app.add_option("--backend", backend, "Whose layers: our own on the processor, or LibTorch's modules")
      ->check(CLI::IsMember({"host", "libtorch"}));
  app.add_option("--sequences", sequences, "Sequences of a micro-batch")->check(CLI::Range(1, 4096));
  app.add_option("--length", length, "Tokens of a sequence; without it as many as the model has positions")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--optimizer", optimizer, "Whose states are counted: sgd or adam")
      ->check(CLI::IsMember({"sgd", "adam"}));
  app.add_option("--rounds", how.micro_batches, "Micro-batches that are measured; times are their medians")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--warm-up", how.warm_up, "Micro-batches before them that do not count")
      ->check(CLI::Range(0, 1'000'000));
  app.add_option("--links", links,
                 "Measure the links between the processes of a launcher first, over mpi or gloo, as in pipewright-run "
                 "-n 4 profile_gpt2 --links gloo")
      ->check(CLI::IsMember({"mpi", "gloo"}));
  app.add_option("--deadline", deadline, "Seconds that a rank waits for another")->check(CLI::Range(1., 1e6));
  app.add_option("-o,--output", output, "The profile, a JSON file; - is the standard output");
  try {
    app.parse(argc, argv);
  } catch (CLI::Success const& e) {
    return app.exit(e);
  } catch (CLI::ParseError const& e) {
    throw pw::error(std::string(e.what()) + "; see profile_gpt2 --help");
  }
  auto const sizes = trainer::parse_model(model);
  if (length == 0) length = sizes.positions;
  trainer::check_micro_batch(sizes, sequences, length);
  trainer::check_writable(output);  // before all is measured
  measured_links between;
  if (!links.empty())
    between = links_over(links,
                         4 * static_cast<std::size_t>(sequences) * static_cast<std::size_t>(length) *
                             static_cast<std::size_t>(sizes.width),
                         deadline);
  if (between.rank > 0) return 0;
  if (backend == "host") trainer::advise_on_blas("profile_gpt2");
  if (isatty(STDERR_FILENO) == 1)
    how.progress = [](int done, int all) {
      fmt::print(stderr, "\r{}", done < all ? fmt::format("{} of {} micro-batches", done, all) : std::string("\x1b[K"));
    };
  trainer::profile_request const request{sizes, sequences, length, optimizer == "adam", how};
  auto found = backend == "libtorch"
                   ? trainer::load_libtorch_half("--backend libtorch").profile(request)
                   : trainer::profile_of<pw::gpt2::host::scratch_meter>(pw::gpt2::model(sizes), request);
  int const count = found.profile.count();
  for (int i = 0; i < count; ++i)
    found.profile.layers[static_cast<std::size_t>(i)].name = i == 0           ? "embedding"
                                                             : i + 1 == count ? "head"
                                                                              : fmt::format("block {}", i - 1);
  auto const text =
      planner::written({.model = fmt::format("GPT-2 of {} blocks, width {}, {} sequences of {} tokens, {}",
                                             sizes.layers, sizes.width, sequences, length, backend),
                        .profile = std::move(found.profile),
                        .link = between.links.empty() ? std::nullopt : std::optional(slowest_of(between.links)),
                        .links = between.links,
                        .spread = std::move(found.spread)});
  if (output == "-") tool::print(text);
  else pw::write_file(output, [&](auto&& append) { append(text); });
  tool::finish_printing();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return tool::answer("profile_gpt2",
                      "there is not enough memory for this model; choose a smaller one or fewer --sequences", run, argc,
                      argv);
}
