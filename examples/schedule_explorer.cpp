// SPDX-License-Identifier: Apache-2.0
// Question: which schedule at my numbers of ranks and micro-batches? Prints, checks, simulates and draws schedules.
// Exit code 0: done; 1: the schedule that was checked is broken; 2: the question cannot be answered, and why.
#include <cstdio>
#include <string>

#include <CLI/CLI.hpp>

#include "schedule_explorer/commands.hpp"
#include "tool/answer.hpp"

namespace {

namespace pw = pipewright;

constexpr char const* costs_help =
    "Times of a rank and micro-batch, all its chunks together, and the latency of an edge between ranks: "
    "forward=1,backward_input=1,backward_weight=1,transfer=0";

void add_choice(CLI::App& command, explorer::choice& c) {
  command.add_option("-s,--schedule", c.schedule, fmt::format("One of {}", fmt::join(tool::schedule_names(), ", ")))
      ->required();
  command.add_option("-p,--ranks", c.ranks, "P, pipeline ranks")->required();
  command
      .add_option("-m,--micro-batches", c.micro_batches,
                  "M, micro-batches of a batch: of one update for 2bw, the stream's length for 1f1b")
      ->required();
  command.add_option("-v,--chunks", c.chunks, "V, stages of each rank (interleaved: 2; forward-only: 1)");
  command.add_option(
      "-g,--group", c.group,
      "G, micro-batches that interleaved runs through a chunk before the next; by default the smallest that is legal");
  command.add_option("-b,--batches", c.batches,
                     "How often an asynchronous schedule repeats --micro-batches before it drains (1)");
}

int run(int argc, char** argv) {
  CLI::App app("Prints, checks, simulates and draws pipeline schedules.", "schedule_explorer");
  app.require_subcommand(0, 1);
  app.footer("Example: schedule_explorer draw --schedule flush --ranks 4 --micro-batches 8");
  explorer::choice choice;
  std::string cost = "forward=1,backward_input=1,backward_weight=1,transfer=0", file;
  bool transfers = false, as_json = false;
  explorer::check_request request;

  auto* const order =
      app.add_subcommand("order", "Print a schedule as CSV, a line a rank: 0F0,0F1,... as PyTorch reads it");
  add_choice(*order, choice);
  order->add_flag("--transfers", transfers,
                  "With SEND and RECV, placed so that the table is safe even where every transfer blocks");

  auto* const check = app.add_subcommand("check", "Say whether a schedule in a CSV file is right, or where it is not");
  check
      ->add_option("FILE", request.file,
                   "A line a rank, cells as 0F0 or 1SEND_B2; - reads the standard input. With transfers it is judged "
                   "as it stands, without them it is lowered first")
      ->required();
  check->add_option(
      "--placement", request.placement,
      "The rank of each stage: loop, v, or a list as 0,1,1,0; without it, where the stage's actions stand");
  check->add_option("--weights", request.weights, "When weights are updated: sync, stash, vsync or 2bw")
      ->check(CLI::IsMember({"sync", "stash", "vsync", "2bw"}));
  check->add_option("--batches", request.batches, "2bw: how many updates the table's micro-batches make (1)");

  auto* const simulate = app.add_subcommand("simulate", "Predict time, bubble and memory of a schedule");
  add_choice(*simulate, choice);
  simulate->add_option("--cost", cost, costs_help);
  simulate->add_flag("--json", as_json, "As JSON");

  auto* const draw = app.add_subcommand("draw", "Draw a schedule's timeline, as SVG or in the terminal");
  add_choice(*draw, choice);
  draw->add_option("--cost", cost, costs_help);
  draw->add_option("-o,--output", file, "The SVG file; without it the timeline is drawn in the terminal");

  auto* const trace =
      app.add_subcommand("trace", "Write a schedule's timeline for ui.perfetto.dev or chrome://tracing");
  add_choice(*trace, choice);
  trace->add_option("--cost", cost, costs_help);
  trace->add_option("-o,--output", file, "The JSON file; without it the standard output");

  try {
    app.parse(argc, argv);
  } catch (CLI::Success const& e) {
    return app.exit(e);
  } catch (CLI::ParseError const& e) {
    auto const used = app.get_subcommands();
    throw pw::error(fmt::format("{}; see schedule_explorer {}--help", e.what(),
                                used.empty() ? "" : used.front()->get_name() + " "));
  }
  if (app.get_subcommands().empty())
    throw pw::error("a command is expected: order, check, simulate, draw or trace; see schedule_explorer --help");
  for (auto* const command : {order, simulate, draw, trace})
    choice.says_batches = choice.says_batches || command->count("--batches") > 0;
  int result = 0;
  if (order->parsed()) explorer::order(choice, transfers);
  if (check->parsed()) result = explorer::check(request);
  if (simulate->parsed()) explorer::simulate(choice, cost, as_json);
  if (draw->parsed()) explorer::draw(choice, cost, file);
  if (trace->parsed()) explorer::write_trace(choice, cost, file);
  tool::finish_printing();
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  return tool::answer("schedule_explorer",
                      "there is not enough memory for this plan; ask for fewer ranks, micro-batches or batches", run,
                      argc, argv);
}
