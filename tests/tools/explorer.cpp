// SPDX-License-Identifier: Apache-2.0
// Runs schedule_explorer as people do and looks at what it prints, writes and returns.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <support/tool.hpp>
#include <sys/wait.h>

namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;

using support::content;
using support::outcome;

fs::path const& directory() { return support::scratch_directory(); }
fs::path file_with(std::string_view text) { return support::file_with("table.csv", text); }
outcome explorer(std::string const& arguments) { return support::run_tool("schedule_explorer", arguments); }

outcome check(std::string_view table, std::string const& options = "") {
  return explorer("check '" + file_with(table).string() + "' " + options);
}

json simulate(std::string const& arguments) {
  auto const result = explorer("simulate --json " + arguments);
  CAPTURE(arguments);
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  CHECK(result.err.empty());
  return json::parse(result.out);
}

/// One clear sentence on the standard error, nothing on the standard output, exit code 2.
void is_refused(outcome const& result, std::string_view because) {
  CAPTURE(result.err);
  CHECK(result.code == 2);
  CHECK(result.out.empty());
  CHECK(result.err.find("schedule_explorer: ") == 0);
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK(result.err.find(because) != std::string::npos);
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

}  // namespace

TEST_CASE("help is everywhere") {
  for (std::string const command : {"", "order ", "check ", "simulate ", "draw ", "trace "}) {
    auto const result = explorer(command + "--help");
    CHECK(result.code == 0);
    CHECK(contains(result.out, "Usage: schedule_explorer"));
    CHECK(result.err.empty());
  }
}

TEST_CASE("order prints the orders of the literature") {
  CHECK(explorer("order --schedule interleaved --ranks 2 --micro-batches 4 --chunks 2").out ==
        "0F0,0F1,2F0,2F1,0F2,2B0,0F3,2B1,2F2,0B0,2F3,0B1,2B2,2B3,0B2,0B3\n"
        "1F0,1F1,3F0,3B0,3F1,3B1,1F2,1B0,1F3,1B1,3F2,3B2,3F3,3B3,1B2,1B3\n");
  auto const grouped = explorer("order --schedule interleaved --ranks 2 --micro-batches 6 --chunks 2 --group 4");
  CHECK(contains(grouped.out, "\n1F0,1F1,1F2,1F3,3F0,3B0,3F1,3B1,"));
  CHECK(explorer("order --schedule gpipe --ranks 2 --micro-batches 3").out ==
        "0F0,0F1,0F2,0B0,0B1,0B2\n1F0,1F1,1F2,1B0,1B1,1B2\n");
  CHECK(explorer("order --schedule flush --ranks 2 --micro-batches 3 --transfers").out ==
        "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0F2,0SEND_F2,0RECV_B1,0B1,0RECV_B2,0B2\n"
        "1RECV_F0,1F0,1RECV_F1,1B0,1SEND_B0,1F1,1RECV_F2,1B1,1SEND_B1,1F2,1B2,1SEND_B2\n");
  CHECK(explorer("order --schedule 1f1b --ranks 2 --micro-batches 2 --batches 2").out ==
        "0F0,0F1,0B0,0F2,0B1,0F3,0B2,0B3\n1F0,1B0,1F1,1B1,1F2,1B2,1F3,1B3\n");
  CHECK(explorer("order --schedule forward-only --ranks 2 --micro-batches 2 --chunks 2").out ==
        "0F0,0F1,2F0,2F1\n1F0,1F1,3F0,3F1\n");
}

TEST_CASE("what order prints passes check") {
  for (std::string const schedule :
       {"sequential", "gpipe", "1f1b", "1f1b-vsync", "2bw", "flush", "interleaved", "forward-only"})
    for (std::string const shape : {"--ranks 1 --micro-batches 1", "--ranks 4 --micro-batches 8",
                                    "--ranks 5 --micro-batches 13", "--ranks 3 --micro-batches 2"})
      for (std::string const transfers : {"", " --transfers"}) {
        auto const order = explorer("order --schedule " + schedule + " " + shape + transfers);
        CAPTURE(schedule);
        CAPTURE(shape);
        REQUIRE(order.code == 0);
        auto const weights = schedule == "1f1b"         ? "--weights stash"
                             : schedule == "1f1b-vsync" ? "--weights vsync"
                             : schedule == "2bw"        ? "--weights 2bw"
                                                        : "";
        auto const result = check(order.out, weights);
        CHECK(result.out == "ok\n");
        CHECK(result.err.empty());
        CHECK(result.code == 0);
      }
}

TEST_CASE("check names the fault and its place") {
  auto const deadlock = check(
      "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n1RECV_F0,1F0,1B0,1SEND_B0,1RECV_F1,1F1,1B1,1SEND_B1\n");
  CHECK(deadlock.code == 1);
  CHECK(contains(deadlock.out, "rule deadlock, rank 0, position 3, action 0SEND_F1"));
  CHECK(contains(deadlock.out, "line 1, cell 4"));
  CHECK(contains(deadlock.out, "^^^^^^^^ here"));
  auto const missing = check("0F0,,0B0\n,1F0,\n");
  CHECK(missing.code == 1);
  CHECK(contains(missing.out, "rule complete, rank 1, position 1 (the end of the row), action 1B0 is missing"));
  auto const doubled = check("0F0,,0B0\n,1F0,1F0,1B0\n");
  CHECK(doubled.code == 1);
  CHECK(contains(doubled.out, "rule complete, rank 1, position 1, action 1F0"));
  CHECK(contains(doubled.out, "line 2, cell 3"));
  auto const twice = check("0F0,0B0\n1F0,1B0,0F1\n");
  CHECK(twice.code == 1);
  CHECK(contains(twice.out, "rule placement, rank 1, position 2, action 0F1"));
  auto const order = check("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n");
  CHECK(order.code == 1);
  CHECK(contains(order.out, "rule feasible, rank 0, position 1, action 0B0"));
  for (auto const& result : {deadlock, missing, doubled, twice, order}) CHECK(result.err.empty());
}

TEST_CASE("check knows placements, weight rules and PyTorch's tokens") {
  std::string const v = "0F0,3F0,3B0,0B0\n1F0,2F0,2B0,1B0\n";
  CHECK(check(v).code == 0);
  CHECK(check(v, "--placement v").code == 0);
  CHECK(check(v, "--placement 0,1,1,0").code == 0);
  auto const loop = check(v, "--placement loop");
  CHECK(loop.code == 1);
  CHECK(contains(loop.out, "rule placement, rank 0, position 1, action 3F0"));
  CHECK(check("0UNSHARD,0F0,0WAIT_RECV_F0,0B0,0REDUCE_GRAD,0RESHARD\n").code == 0);
  std::string const gpipe = "0F0,0F1,0F2,0B0,0B1,0B2\n1F0,1F1,1F2,1B0,1B1,1B2\n";
  CHECK(check(gpipe, "--weights sync").code == 0);
  auto const stash = check(gpipe, "--weights stash");
  CHECK(stash.code == 1);
  CHECK(contains(stash.out, "rule weights, rank 0, position 2, action 0F2"));
  auto const path = file_with(v);
  CHECK(explorer("check - < '" + path.string() + "'").code == 0);
}

TEST_CASE("what is no schedule is refused with line and column") {
  is_refused(check(""), "line 1, column 1: a schedule is expected, but there is no action at all");
  is_refused(check("\n\n"), "no action at all");
  is_refused(check("0F0,0B0\n1F0,1X0\n"), "line 2, column 6: a kind of action is expected");
  is_refused(check("hello\n"), "line 1, column 1: an action is expected");
  is_refused(check("0F0,0F99999999999\n"), "line 1, column 7: the micro-batch number is too large");
  is_refused(check("0F0,0UPDATE\n"), "line 1, column 5: 0UPDATE has no place in a table");
  is_refused(check("0F0,0B0\n1F0,, 1R0,1B0\n"), "line 2, column 7: 1R0 has no place in a table");
  is_refused(check("\xEF\xBB\xBF"
                   "0F0,0B0,0SEND_T\n"),
             "line 1, column 9: 0SEND_T has no place in a table");
  is_refused(check("0F0\n", "--placement 0,x"), "--placement '0,x'");
  is_refused(check("0F0\n", "--placement 0,99999999999999999999"), "--placement");
  is_refused(check("0F0\n", "--placement 1"), "the placement names rank 1, but the table has 1 ranks");
  is_refused(check("0F0\n", "--weights none"), "--weights");
  is_refused(explorer("check /nowhere/x.csv"), "cannot read /nowhere/x.csv: No such file or directory");
  is_refused(explorer("check '" + directory().string() + "'"), "it is a directory");
  is_refused(explorer("check"), "FILE is required");
}

// Makespans by the table of the literature (exact, unit times F = I = W = 1).
TEST_CASE("simulate finds the makespans of the literature, exactly") {
  struct row {
    int ranks, micro_batches;
    double naive, gpipe, interleaved2, interleaved4;
  };
  for (auto const& [ranks, micro_batches, naive, gpipe, two, four] :
       {row{2, 4, 24, 15, 27.0 / 2, 51.0 / 4}, row{4, 4, 48, 21, 33.0 / 2, 57.0 / 4},
        row{4, 8, 96, 33, 57.0 / 2, 105.0 / 4}}) {
    std::string const shape = " --ranks " + std::to_string(ranks) + " --micro-batches " + std::to_string(micro_batches);
    auto const ideal = 3 * micro_batches;
    for (auto const& [schedule, makespan] :
         std::vector<std::pair<std::string, double>>{{"sequential", naive},
                                                     {"gpipe", gpipe},
                                                     {"flush", gpipe},
                                                     {"interleaved --chunks 2", two},
                                                     {"interleaved --chunks 4", four}}) {
      auto const found = simulate("--schedule " + schedule + shape);
      CAPTURE(schedule);
      CHECK(found["makespan"] == makespan);
      CHECK(found["makespan"].is_number_integer() == (makespan == std::floor(makespan)));
      CHECK(found["ideal"] == ideal);
      CHECK(found["ideal"].is_number_integer());
      CHECK(found["bubble_of_makespan"].get<double>() == doctest::Approx(1 - ideal / makespan));
      CHECK(found["bubble_of_ideal"].get<double>() == doctest::Approx(makespan / ideal - 1));
      CHECK(found["bubble_steady"].is_null());
    }
  }
}

// Zero Bubble (arXiv 2401.10241), table 5 from the times of its table 9: the bubble of the longest stage.
TEST_CASE("simulate agrees with published bubbles to four decimals") {
  auto rounded = [](json const& found) {
    return std::round(1e4 * found["bubble_of_longest_rank"].get<double>()) / 1e4;
  };
  CHECK(rounded(simulate("--schedule flush --ranks 8 --micro-batches 24 --cost "
                         "forward=18.522,backward_input=18.086,backward_weight=9.337,transfer=0.601")) == 0.2431);
  CHECK(rounded(simulate("--schedule flush --ranks 8 --micro-batches 32 --cost "
                         "forward=18.513,backward_input=18.086,backward_weight=9.331,transfer=0.626")) == 0.1985);
}

TEST_CASE("simulate counts what is held") {
  CHECK(simulate("--schedule interleaved --ranks 4 --micro-batches 8 --chunks 2")["in_flight"] == json({11, 9, 7, 5}));
  CHECK(simulate("--schedule interleaved --ranks 4 --micro-batches 8 --chunks 4")["in_flight"] ==
        json({19, 17, 15, 13}));
  CHECK(simulate("--schedule gpipe --ranks 3 --micro-batches 8")["in_flight"] == json({8, 8, 8}));
  CHECK(simulate("--schedule flush --ranks 4 --micro-batches 8")["weight_versions"] == json({1, 1, 1, 1}));
  CHECK(simulate("--schedule 1f1b --ranks 8 --micro-batches 8")["weight_versions"] == json({8, 7, 6, 5, 4, 3, 2, 1}));
  CHECK(simulate("--schedule 1f1b --ranks 8 --micro-batches 8 --batches 1")["weight_versions"] ==
        json({2, 3, 4, 5, 4, 3, 2, 1}));
  CHECK(simulate("--schedule 1f1b-vsync --ranks 4 --micro-batches 8")["weight_versions"] == json({4, 4, 4, 4}));
  auto const buffered = simulate("--schedule 2bw --ranks 4 --micro-batches 4");
  CHECK(buffered["weight_versions"] == json({2, 2, 2, 2}));
  CHECK(buffered["weight_buffers"] == json({2, 2, 2, 2}));
  CHECK(buffered["in_flight"] == json({4, 3, 2, 1}));
  CHECK(buffered["bubble_steady"] == 0);
  // 2(P-1)c/P a micro-batch for a latency of c: 6 / 4 of 3 + 6 / 4
  CHECK(simulate("--schedule 1f1b --ranks 4 --micro-batches 8 --cost transfer=1")["bubble_steady"].get<double>() ==
        doctest::Approx(1.0 / 3));
  CHECK(
      simulate("--schedule flush --ranks 4 --micro-batches 8 --cost forward=1/3,backward_input=0.5,backward_weight=1/6")
          ["makespan"] == 11);
}

TEST_CASE("simulate also speaks to people") {
  auto const result = explorer("simulate --schedule 2bw --ranks 4 --micro-batches 4 --batches 3");
  CHECK(result.code == 0);
  for (std::string_view const word : {"makespan", "bubble, steady state", "in flight", "weight versions", "2 2 2 2"})
    CHECK(contains(result.out, word));
}

TEST_CASE("draw and trace write files, or to the terminal") {
  auto const svg = directory() / "x.svg", trace = directory() / "x.json";
  auto const drawn = explorer("draw --schedule 2bw --ranks 3 --micro-batches 4 --batches 2 -o '" + svg.string() + "'");
  CHECK(drawn.code == 0);
  CHECK(drawn.out.empty());
  CHECK(content(svg).find("<svg ") == 0);
  CHECK(contains(content(svg), "weights v"));
  CHECK(explorer("trace --schedule interleaved --ranks 2 --micro-batches 4 --cost transfer=0.5 -o '" + trace.string() +
                 "'")
            .code == 0);
  CHECK(json::parse(content(trace))["traceEvents"].size() > 32);
  CHECK(json::parse(explorer("trace --schedule gpipe --ranks 2 --micro-batches 1").out)["traceEvents"].size() > 4);
  auto const shown = explorer("draw --schedule flush --ranks 2 --micro-batches 2");
  CHECK(shown.out ==
        "flush, 2 ranks, 2 micro-batches\n"
        "rank 0 | F0 F1 .. .. B0--- .. B1--- | bubble 3 of 9, in flight 2\n"
        "rank 1 | .. F0 B0--- F1 B1--- .. .. | bubble 3 of 9, in flight 1\n"
        "\nF forward   B backward   .. idle (bubble)   F0 micro-batch 0\n");
}

TEST_CASE("output that cannot be written leaves nothing behind") {
  auto const files = [] { return std::distance(fs::directory_iterator(directory()), fs::directory_iterator()); };
  explorer("--help");  // what a run itself leaves there
  auto const before = files();
  is_refused(explorer("draw --schedule gpipe --ranks 2 --micro-batches 2 -o /nowhere/x.svg"),
             "cannot write /nowhere/x.svg: No such file or directory");
  is_refused(explorer("trace --schedule gpipe --ranks 2 --micro-batches 2 -o '" + directory().string() + "'"),
             "it is a directory");
  is_refused(explorer("trace --schedule gpipe --ranks 2 --micro-batches 2 -o /dev/full"), "No space left on device");
  auto const large = directory() / "large.svg";
  is_refused(explorer("draw --schedule gpipe --ranks 100 --micro-batches 1100 -o '" + large.string() + "'"),
             "at most 200000 actions");
  CHECK_FALSE(fs::exists(large));
  CHECK(files() == before);
  int const full =
      std::system("'" PIPEWRIGHT_TOOLS_DIR
                  "/schedule_explorer' order --schedule gpipe --ranks 2 --micro-batches 2 > /dev/full 2> /dev/null");
  CHECK(WEXITSTATUS(full) == 2);
}

TEST_CASE("an unknown schedule gets the names, a bad shape the rule and the nearest legal one") {
  auto order = [](std::string const& arguments) { return explorer("order --schedule " + arguments); };
  is_refused(order("flsh --ranks 2 --micro-batches 2"),
             "there is no schedule 'flsh', did you mean 'flush'?; the schedules are sequential, gpipe, 1f1b, "
             "1f1b-vsync, 2bw, flush, interleaved, forward-only");
  is_refused(order("interlaced --ranks 2 --micro-batches 2"), "did you mean 'interleaved'?");
  is_refused(order("\"$(printf 'a\\001\\nb')\" --ranks 2 --micro-batches 2"), "there is no schedule 'a??b'");
  is_refused(order("gpipe --ranks 0 --micro-batches 2"), "the nearest legal shape is --ranks 1 --micro-batches 2");
  is_refused(order("gpipe --ranks -3 --micro-batches 2"), "--ranks -3");
  is_refused(order("gpipe --ranks 4 --micro-batches 8 --chunks 2"),
             "one chunk a rank; for more choose interleaved; the nearest legal shape is --ranks 4 --micro-batches 8\n");
  is_refused(order("interleaved --ranks 4 --micro-batches 8 --chunks 1"),
             "choose flush; the nearest legal shape is --ranks 4 --micro-batches 8 --chunks 2");
  is_refused(order("interleaved --ranks 4 --micro-batches 9 --group 4"), "--group 5");
  is_refused(order("2bw --ranks 8 --micro-batches 6"), "the nearest legal shape is --ranks 8 --micro-batches 7");
  is_refused(order("flush --ranks 2 --micro-batches 2 --batches 2"), "only asynchronous schedules have several");
  is_refused(order("flush --ranks 2 --micro-batches 2 --group 2"), "--group belongs to interleaved");
  is_refused(order("gpipe --ranks 99999999999 --micro-batches 2"),
             "--ranks 99999999999 --micro-batches 2: a plan holds at most 65535 stages");
  is_refused(order("gpipe --ranks 9999999999999999999999 --micro-batches 2"), "at most 65535 stages");
  is_refused(order("interleaved --ranks 70000 --micro-batches 2147483647"), "at most 65535 stages");
  is_refused(order("gpipe --ranks 65535 --micro-batches 67108864"), "compute actions, more than");
  is_refused(order("gpipe --ranks two --micro-batches 2"), "--ranks");
  is_refused(order("gpipe --ranks 2.5 --micro-batches 2"), "--ranks");
  is_refused(order("gpipe --ranks 2"), "--micro-batches is required");
  is_refused(explorer(""), "order, check, simulate, draw or trace");
  is_refused(explorer("dance"), "dance");
  is_refused(order("gpipe --ranks 2 --micro-batches 2 --dance"), "--dance");
  auto cost = [](std::string const& text) {
    return explorer("simulate --schedule gpipe --ranks 2 --micro-batches 2 --cost '" + text + "'");
  };
  is_refused(cost("speed=1"), "--cost 'speed=1': expected are forward=");
  is_refused(cost("forward"), "--cost 'forward'");
  for (std::string const bad : {"nan", "inf", "-1", "1e9", "", "1/0", "1.2.3", "0x1", "1234567890"})
    is_refused(cost("forward=" + bad), "a number that is not negative is expected");
}

TEST_CASE("broken variants of a table end in 0, 1 or 2 and one sentence") {
  std::string const sound = explorer("order --schedule interleaved --ranks 2 --micro-batches 4 --transfers").out;
  std::string_view const pieces[] = {",",     "\n", "F", "B",  "0",    "99999999999", "(", ";", ")OVERLAP_F_B",
                                     "SEND_", "_",  " ", "\r", "\xFF", "\"",          "-1"};
  std::mt19937 random(2401);
  int codes[3] = {};
  for (int round = 0; round < 1000; ++round) {
    std::string text = sound;
    for (auto edits = 1 + random() % 3; edits > 0; --edits) {
      std::size_t const at = random() % (text.size() + 1);
      switch (random() % 4) {
        case 0: text.erase(at, random() % 8); break;
        case 1: text.insert(at, pieces[random() % std::size(pieces)]); break;
        case 2:
          if (at < text.size()) text[at] = static_cast<char>(random());
          break;
        default: text.resize(at); break;
      }
    }
    auto const result = check(text);
    CAPTURE(text);
    REQUIRE(result.code >= 0);
    REQUIRE(result.code <= 2);
    ++codes[result.code];
    if (result.code == 0) CHECK(result.out == "ok\n");
    if (result.code == 1) CHECK(contains(result.out, "rule "));
    if (result.code == 2) {
      CHECK(result.out.empty());
      CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
    } else {
      CHECK(result.err.empty());
    }
  }
  CHECK(codes[1] > 50);
  CHECK(codes[2] > 300);
}
