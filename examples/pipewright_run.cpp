// SPDX-License-Identifier: Apache-2.0
// Question: how do I start a process per rank on this machine, with neither MPI nor Python?
#include <cmath>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <unistd.h>

#include <pipewright/launch/launch.hpp>
#include <pipewright/version.hpp>

#include "pipewright_run/request.hpp"
#include "pipewright_run/supervisor.hpp"

namespace {

constexpr char const* footer = R"(Example: pipewright-run -n 4 train_gpt2 --transport gloo --schedule flush

Each rank finds torchrun's variables: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, GROUP_RANK,
MASTER_ADDR=127.0.0.1, MASTER_PORT (a free one), TORCHELASTIC_RUN_ID; and OMP_NUM_THREADS = cores / ranks
unless it is set. Programs of pipewright, of PyTorch and of LibTorch find one another by them.
What ranks write comes line by line, lines whole. The standard input is rank 0's.
When a rank fails, the others have --grace seconds to say why and end; then they get SIGTERM, and as many
seconds later SIGKILL. SIGINT, SIGTERM, SIGHUP and SIGQUIT are handed on to all ranks, which have --stop
seconds to end; a second one kills them. SIGUSR1 and SIGUSR2 are handed on. No rank outlives pipewright-run.
Exit code: 0 if all ranks end with 0, otherwise the first failure's (128 + n for signal n);
2: wrong usage; 124: over the deadline; 126, 127: PROGRAM cannot be run, is not there.)";

struct formatter : CLI::Formatter {
  std::string make_usage(CLI::App const*, std::string) const override {
    return "Usage: pipewright-run -n RANKS [OPTIONS] PROGRAM [ARGUMENTS...]\n";
  }
};

struct wrong_usage : pipewright::error {
  explicit wrong_usage(std::string const& what) : error(what + "; see pipewright-run --help") {}
};

int run(int argc, char** argv) {
  runner::request request;
  CLI::App app("Starts n ranks of a program on this machine.", "pipewright-run");
  app.formatter(std::make_shared<formatter>());
  app.set_version_flag("--version", [] {
    auto const& v = pipewright::version;
    return "pipewright " + std::to_string(v.major_part) + "." + std::to_string(v.minor_part) + "." +
           std::to_string(v.patch_part);
  });
  app.prefix_command();  // from PROGRAM on nothing is read
  app.footer(footer);
  app.add_option("-n,--ranks", request.ranks, "How many, 1 to 1024")->required();
  app.add_option("--deadline", request.deadline, "Seconds after which the run is ended");
  app.add_option("--grace", request.grace, "Seconds from the first failure to SIGTERM, and from there to SIGKILL (5)");
  app.add_option("--stop", request.stop, "Seconds from a signal that asks to end to SIGKILL (30)");
  app.add_flag("--tag-output", request.tag_output, "Begin each line with its rank: [2] loss 3.14");
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& fault) {
    if (fault.get_exit_code() == 0) return app.exit(fault);
    throw wrong_usage(fault.what());
  }
  request.command = app.remaining();
  if (!request.command.empty() && request.command.front() == "--") request.command.erase(request.command.begin());
  else if (!request.command.empty() && request.command.front().starts_with("-"))
    throw wrong_usage("there is no option " + request.command.front());
  if (request.command.empty()) throw wrong_usage("no program is given");
  if (request.ranks < 1 || request.ranks > 1024)
    throw wrong_usage("-n " + std::to_string(request.ranks) + " is not between 1 and 1024");
  for (auto const& [name, value] : {std::pair("--deadline", request.deadline.value_or(0)),
                                    std::pair("--grace", request.grace), std::pair("--stop", request.stop)})
    if (!(value >= 0) || value > 1e9) throw wrong_usage(std::string(name) + " is not a number of seconds");
  return runner::supervisor(request).run();
}

}  // namespace

int main(int argc, char** argv) {
  // Whoever starts us without standard streams does not want a pipe of ours in their place.
  for (int fd = 0; fd <= 2; ++fd)
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) return 1;
  try {
    return run(argc, argv);
  } catch (runner::cannot_execute const& fault) {
    std::fprintf(stderr, "pipewright-run: %s\n", fault.what());
    return fault.code;
  } catch (std::exception const& fault) {
    std::fprintf(stderr, "pipewright-run: %s\n", fault.what());
    return dynamic_cast<wrong_usage const*>(&fault) != nullptr ? runner::refused : 1;
  }
}
